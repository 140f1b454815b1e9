"""Configuration of the networks and of the sampler, apart from them, so that a profile is read without diffusers."""

from typing import Literal

from pydantic import Field, model_validator

from spinmeround.models.diffusion.rays import RayEncoding
from spinmeround.storage.records import FrozenModel


class UNetParams(FrozenModel):
    """Sizes of a MultiviewUNet. The defaults are the paper's: Stable Diffusion 1.5 on 512 px images, 8 views."""

    sample_size: int = Field(64, ge=1, description="Side of the latents")
    latent_channels: int = Field(4, ge=1, description="Channels of the image's latent, and of the normals'")
    views: int = Field(8, ge=1, description="Views generated together, conditioning ones included")
    ray_encoding: RayEncoding = Field("spinmeround", description="How cameras enter the network")
    block_out_channels: tuple[int, ...] = Field((320, 640, 1280, 1280), min_length=1, description="Width of each level")
    layers_per_block: int = Field(2, ge=1, description="Residual blocks of each level")
    attention_levels: tuple[bool, ...] = Field(
        (True, True, True, False), description="Levels with transformer blocks; the middle always has one"
    )
    multiview_factors: tuple[int, ...] = Field(
        (1, 2, 4, 8), description="Downsampling factors at which transformer blocks attend across views"
    )
    attention_heads: int = Field(8, ge=1, description="Heads of every attention")
    norm_groups: int = Field(32, ge=1, description="Groups of the group normalisations")
    cross_attention_dim: int = Field(768, ge=1, description="Width of the text encoder's states")

    @model_validator(mode="after")
    def _consistent(self) -> "UNetParams":
        levels = len(self.block_out_channels)
        if len(self.attention_levels) != levels:
            raise ValueError(f"attention_levels: expected {levels}, one a level, got {len(self.attention_levels)}")
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
    """Raises ValueError for a downsampling factor that a network of so many levels does not have."""
    allowed = [2**level for level in range(levels)]
    unknown = [factor for factor in factors if factor not in allowed]
    if unknown:
        raise ValueError(f"multiview_factors: expected some of {allowed} for {levels} levels, got {unknown[0]}")


class SolverParams(FrozenModel):
    """How a step is taken; noise is added only for s_churn above 0, at levels from s_tmin to s_tmax."""

    solver: Literal["euler", "heun", "dpmpp"] = Field(
        "euler",
        description="heun is of second order, two evaluations a step; dpmpp (DPM-Solver++ 2M) of second order with one",
    )
    s_churn: float = Field(0.0, ge=0, description="Noise added over all steps; 0 is deterministic")
    s_tmin: float = Field(0.05, ge=0, description="Smallest noise level at which noise is added")
    s_tmax: float = Field(50.0, gt=0, description="Largest noise level at which noise is added")
    s_noise: float = Field(1.003, gt=0, description="Standard deviation of the noise added")

    @model_validator(mode="after")
    def _no_churn_for_multistep(self) -> "SolverParams":
        if self.solver == "dpmpp" and self.s_churn:
            raise ValueError(f"s_churn: expected 0 for dpmpp, which remembers the step before, got {self.s_churn}")
        return self
