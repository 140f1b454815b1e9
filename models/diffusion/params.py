"""Configuration of the networks, the noise levels and the sampler. Imports no torch."""

from typing import Literal

from pydantic import Field, model_validator

from spinmeround.storage.records import FrozenParams

RayEncoding = Literal["spinmeround", "3dim", "plucker"]
"""Encodings of camera rays; `models.diffusion.rays` describes their channels."""

NormalsFrame = Literal["camera", "reference", "world"]
"""Frames of normals inside the model; `models.diffusion.normals_frame` describes them."""

ConditionedOn = Literal["both", "image", "identity"]
"""What a model is conditioned on beside cameras: given images and an identity, or one of the two alone."""

NormalsGuidance = Literal["projected", "paper"]
"""Steps of Algorithm 1; `models.diffusion.sampling.photo_normals` describes them."""

PAPER_SCALE = 1e4
"""Guidance scale of the paper's Algorithm 1."""


class UNetParams(FrozenParams):
    """Sizes of a MultiviewUNet. Defaults are the paper's: Stable Diffusion 1.5 on 512 px images, 8 views."""

    sample_size: int = Field(64, ge=1, description="Side of the latents")
    latent_channels: int = Field(4, ge=1, description="Latent channels of the image; the normals have as many")
    normals: bool = Field(True, description="Views have normals beside their images; false: images alone")
    views: int = Field(8, ge=1, description="Views per group, conditioning views included")
    ray_encoding: RayEncoding = Field("spinmeround", description="Encoding of the camera rays")
    block_out_channels: tuple[int, ...] = Field((320, 640, 1280, 1280), min_length=1, description="Width of each level")
    layers_per_block: int = Field(2, ge=1, description="Residual blocks per level")
    attention_levels: tuple[bool, ...] = Field(
        (True, True, True, False), description="Levels with transformer blocks; the middle block always has one"
    )
    multiview_factors: tuple[int, ...] = Field(
        (2, 4, 8), description="Downsampling factors at which transformer blocks attend across views"
    )
    attention_heads: int = Field(8, ge=1, description="Heads per attention layer")
    norm_groups: int = Field(32, ge=1, description="Groups per group normalisation")
    cross_attention_dim: int = Field(768, ge=1, description="Width of the text encoder's hidden states")
    latent_statistics: bool = Field(
        False,
        description="Normalise latents by their mean and standard deviation at each channel and position, which are "
        "stored with the model",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "UNetParams":
        levels = len(self.block_out_channels)
        if len(self.attention_levels) != levels:
            raise ValueError(f"attention_levels: expected {levels}, one per level, got {len(self.attention_levels)}")
        if self.sample_size % 2 ** (levels - 1):
            raise ValueError(f"sample_size: expected a multiple of {2 ** (levels - 1)}, got {self.sample_size}")
        for name in ("attention_heads", "norm_groups"):
            odd = [c for c in self.block_out_channels if c % getattr(self, name)]
            if odd:
                raise ValueError(
                    f"block_out_channels: expected multiples of {name} {getattr(self, name)}, got {odd[0]}"
                )
        check_factors(self.multiview_factors, levels)
        return self


def check_factors(factors: tuple[int, ...] | list[int], levels: int) -> None:
    """Raises ValueError for a downsampling factor that a network with this many levels does not have."""
    allowed = [2**level for level in range(levels)]
    unknown = [factor for factor in factors if factor not in allowed]
    if unknown:
        raise ValueError(f"multiview_factors: expected some of {allowed} for {levels} levels, got {unknown[0]}")


class NoiseDistribution(FrozenParams):
    """Training noise levels, ln s ~ N(mean, std^2), before the shift for the number of targets."""

    mean: float = Field(0.7, description="Mean of ln(sigma)")
    std: float = Field(1.6, gt=0, description="Standard deviation of ln(sigma)")


SIGMA_MAX, SIGMA_MAX_WITHOUT_VIEWS = 80.0, 700.0
"""Largest sampling noise level with conditioning views, and from an identity alone or nothing."""

GUIDANCE_SCALE, GUIDANCE_SCALE_WITHOUT_VIEWS = 3.0, 3.5
"""Scale of classifier-free guidance, likewise."""


def default_guidance_scale(conditioning_views: int) -> float:
    """The paper's guidance scale for groups with so many conditioning views."""
    return GUIDANCE_SCALE if conditioning_views else GUIDANCE_SCALE_WITHOUT_VIEWS


class NoiseSchedule(FrozenParams):
    """Sampling noise levels (EDM, Equation 5): `steps` levels from sigma_max to sigma_min, then 0."""

    steps: int = Field(50, ge=1, description="Number of sampling steps")
    sigma_min: float = Field(0.002, gt=0, description="Noise level of the last step")
    sigma_max: float | None = Field(
        None, gt=0, description="Noise level of the first step; default: 80, or 700 without conditioning views"
    )
    rho: float = Field(7.0, gt=0, description="Exponent of the schedule; larger values place more steps at low noise")
    shift: bool = Field(
        False, description="Multiply the levels by the root of the number of targets of a group, as training does"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "NoiseSchedule":
        highest = SIGMA_MAX if self.sigma_max is None else self.sigma_max
        if self.sigma_min >= highest:
            raise ValueError(f"sigma_min: expected less than sigma_max {highest}, got {self.sigma_min}")
        return self

    def highest(self, conditioning_views: int) -> float:
        """The noise level of the first step for groups with so many conditioning views."""
        if self.sigma_max is not None:
            return self.sigma_max
        return SIGMA_MAX if conditioning_views else SIGMA_MAX_WITHOUT_VIEWS


class SolverParams(FrozenParams):
    """Solver of the sampler. Noise is added only if s_churn is above 0, at noise levels from s_tmin to s_tmax."""

    solver: Literal["euler", "heun", "dpmpp"] = Field(
        "euler",
        description="euler: first order; heun: second order, two evaluations per step; dpmpp (DPM-Solver++ 2M): second "
        "order, one evaluation per step",
    )
    s_churn: float = Field(0.0, ge=0, description="Noise added over all steps; 0 is deterministic")
    s_tmin: float = Field(0.05, ge=0, description="Smallest noise level at which noise is added")
    s_tmax: float = Field(50.0, gt=0, description="Largest noise level at which noise is added")
    s_noise: float = Field(1.003, gt=0, description="Standard deviation of the added noise")

    @model_validator(mode="after")
    def _no_churn_for_multistep(self) -> "SolverParams":
        if self.solver == "dpmpp" and self.s_churn:
            raise ValueError(f"s_churn: expected 0 for dpmpp, a multistep solver, got {self.s_churn}")
        return self


class PhotoNormalsParams(FrozenParams):
    """Inference of a photo's normals (`models.diffusion.sampling.photo_normals`): the paper's Algorithm 1."""

    steps: int = Field(50, ge=2, le=1000, description="Steps of the DDPM schedule")
    guidance: NormalsGuidance = Field(
        "projected",
        description="projected: towards the conditional denoiser; paper: the scaled gradient of the mean distance",
    )
    scale: float = Field(
        PAPER_SCALE, ge=0.0, description="Guidance strength; projected guidance applies scale / 1e4 of its correction"
    )
    corrections: int = Field(
        1,
        ge=1,
        description="Gradients per step of projected guidance; more bring the image half closer to the photo, at more "
        "cost",
    )
    draws: int = Field(
        1, ge=1, description="Samples to draw; the result is the mean of the half that matches the photo best"
    )
