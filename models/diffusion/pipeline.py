"""SpinMeRoundPipeline: views of a head, as images and normals, from any cameras.

Given are an identity embedding, or 1 or 3 posed views, with their normals or without (they are inferred then), or both,
or neither. Targets are generated in groups of the network's P views, of which M are the conditioning ones. Where they
are more than one group holds, a ring of anchors is generated first, and every view is conditioned on the given view
(without one: on the front) and its two nearest anchors. A view at the camera of a given one is that one. Pictures are
in [0, 1], normals in the dataset's colours (n + 1) / 2 of the world frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel

from spinmeround.models.diffusion.edm import NoiseSchedule
from spinmeround.models.diffusion.generation import Advance, GroupSampler, Seeds, ViewGroup, generate_plan
from spinmeround.models.diffusion.groups import check_cameras, plan_views
from spinmeround.models.diffusion.guidance import guided_denoiser
from spinmeround.models.diffusion.latents import (
    Autoencoder,
    decode_pictures,
    downsampling,
    encode_pictures,
    pair_latents,
)
from spinmeround.models.diffusion.memory import in_halves, pictures_that_fit
from spinmeround.models.diffusion.params import SolverParams
from spinmeround.models.diffusion.photo_normals import (
    PhotoNormalsParams,
    ddpm_sigmas,
    infer_normal_latents,
    mean_of_best,
)
from spinmeround.models.diffusion.sampler import draw_noise, seeded_generators
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.conditioning import IDENTITY_WIDTH, IdentityConditioner
from spinmeround.models.identity.prompt import PromptTokens

StepEnd = Callable[["SpinMeRoundPipeline", int, float, dict[str, Tensor]], dict[str, Tensor] | None]
"""diffusers' `callback_on_step_end`: pipeline, step, noise level and {"latents": ...}; may return other latents."""


@dataclass
class SpinMeRoundOutput(BaseOutput):
    """One image and one normal map a target camera, in the order asked, as `output_type` says.

    `given_normals` are those of the conditioning views, as they were given or inferred; None without such views.
    """

    images: Any
    normals: Any
    given_normals: Any = None


@dataclass(frozen=True, kw_only=True)
class PosedViews:
    """Conditioning views. Pictures as diffusers takes them: PIL, numpy (n, H, W, 3) or torch (n, 3, H, W) in [0, 1].

    Normals that are not given are inferred from the images by the paper's Algorithm 1.
    """

    cameras: Cameras
    images: PipelineImageInput
    normals: PipelineImageInput | None = None


class SpinMeRoundPipeline(DiffusionPipeline):
    """A multiview UNet, an autoencoder and an Arc2Face text encoder; `prompt` holds the fields of PromptTokens."""

    unet: MultiviewUNet
    vae: Autoencoder
    text_encoder: CLIPTextModel
    model_cpu_offload_seq = "text_encoder->vae->unet"  # type: ignore[assignment]

    def __init__(
        self,
        unet: MultiviewUNet,
        vae: Autoencoder,
        text_encoder: CLIPTextModel,
        prompt: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, text_encoder=text_encoder)  # type: ignore[no-untyped-call]
        tokens = PromptTokens(**(prompt or {}))
        self.register_to_config(prompt=tokens.model_dump(mode="json"))  # type: ignore[no-untyped-call]
        self.image_processor = VaeImageProcessor(
            vae_scale_factor=downsampling(vae), vae_latent_channels=vae.config["latent_channels"], do_resize=False
        )
        self._check_parts()

    @property
    def conditioner(self) -> IdentityConditioner:
        """Identity embeddings to text states, through this pipeline's text encoder."""
        return IdentityConditioner(self.text_encoder, PromptTokens(**self.config["prompt"]))

    @property
    def picture_side(self) -> int:
        """Side of the pictures that this model takes and gives, in pixels."""
        side: int = self.unet.config["base"]["sample_size"]
        return side * downsampling(self.vae)

    @torch.no_grad()
    def __call__(
        self,
        cameras: Cameras,
        *,
        identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None = None,
        conditioning: PosedViews | None = None,
        anchored: bool | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int = 50,
        schedule: NoiseSchedule | None = None,
        solver: SolverParams | None = None,
        normals: PhotoNormalsParams | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepEnd | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> SpinMeRoundOutput:
        """Generates the views of `cameras`.

        `identity` is a unit-length ArcFace embedding. `guidance_scale` is 3 by default, 3.5 without conditioning views,
        where sampling also starts from sigma 700 instead of 80; a `schedule` replaces these and the number of steps.
        `anchored` False lets no group know of another; by default that is so where one group holds all views, or three
        views are given. Cameras are relative to the given view nearest to the front, which is to show part of the face.
        `normals` says how missing normals are inferred. `batch_size` groups are generated at once, by default as many
        as fit into memory, which changes results by rounding alone. `output_type` is "pil", "np", "pt" or "latent".
        `progress(done, steps)` counts the steps of all groups. Raises ValueError for other than 0, 1 or 3 conditioning
        views, two of them at one camera, pictures of another size than the model's or with values outside [0, 1], a
        camera inside the head, not rigid or without a lens, and an embedding that is not finite or not of unit length.
        """
        check_cameras("cameras", cameras)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
        given_cameras = None if conditioning is None else conditioning.cameras
        known = 0 if given_cameras is None else len(given_cameras)
        plan = plan_views(cameras, given_cameras, self.unet.config["views"], anchored)
        text, empty = self._text(identity)

        def sampler(known: int) -> GroupSampler:
            return GroupSampler(
                unet=self.unet,
                text=text,
                empty_text=empty,
                guidance_scale=(3.0 if known else 3.5) if guidance_scale is None else guidance_scale,
                schedule=schedule or NoiseSchedule(steps=num_inference_steps, sigma_max=80.0 if known else 700.0),
                solver=solver or SolverParams(),
                batch_size=batch_size,
            )

        normals, seeds = normals or PhotoNormalsParams(), Seeds(generator=generator)
        images, given_normals = self._encode(conditioning)
        stages = [stage.groups for stage in (plan.ring, plan.targets) if stage is not None]
        steps = sum(sampler(len(group.shown)).schedule.steps for groups in stages for group in groups)
        steps += normals.steps * normals.draws * known if given_normals is None else 0
        with self.progress_bar(total=steps) as bar:
            advance = self._advance(steps, bar, callback_on_step_end, progress)
            if given_normals is None:
                assert given_cameras is not None
                given_normals = self._infer(images, given_cameras, sampler(0), normals, seeds(known), advance)
            clean = pair_latents(images, given_normals)
            latents = generate_plan(plan, (given_cameras, clean), sampler, seeds, advance)
        output = self._decode(latents, output_type)
        if conditioning is not None:
            output.given_normals = self._decode(clean, output_type).normals
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]
        return output

    @torch.no_grad()
    def infer_normals(
        self,
        views: PosedViews,
        *,
        identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None = None,
        normals: PhotoNormalsParams | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> Any:
        """Normal maps of posed images by the paper's Algorithm 1, each view for itself; any normals of `views` are
        left unread. Raises ValueError as a call does."""
        normals, (text, empty) = normals or PhotoNormalsParams(), self._text(identity)
        alone = GroupSampler(
            unet=self.unet,
            text=text,
            empty_text=empty,
            guidance_scale=1.0,
            schedule=NoiseSchedule(),
            solver=SolverParams(),
        )
        images, _ = self._encode(replace(views, normals=None))
        steps = normals.steps * normals.draws * len(images)
        with self.progress_bar(total=steps) as bar:
            advance = self._advance(steps, bar, None, None)
            seeds = Seeds(generator=generator)(len(images))
            found = self._infer(images, views.cameras, alone, normals, seeds, advance)
        output = self._decode(pair_latents(images, found), output_type)
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]
        return output.normals

    def _advance(
        self,
        steps: int,
        bar: Any,
        callback: StepEnd | None,
        progress: Callable[[int, int], None] | None,
    ) -> Advance:
        """What follows each step of a batch: the bar, `progress` and the callback."""
        done = 0

        def advance(step: int, sigma: float, latents: Tensor) -> Tensor | None:
            nonlocal done
            done += len(latents)
            bar.update(len(latents))
            if progress is not None:
                progress(done, steps)
            replaced = callback(self, step, sigma, {"latents": latents}) if callback is not None else None
            return None if replaced is None else replaced.get("latents")

        return advance

    def _infer(
        self,
        images: Float[Tensor, "given channel height width"],
        cameras: Cameras,
        sampler: GroupSampler,
        params: PhotoNormalsParams,
        seeds: list[int],
        advance: Advance,
    ) -> Float[Tensor, "given channel height width"]:
        """Latents of the normals of given views, each a group of its own that knows the identity alone; one after the
        other, since what is differentiated takes several times the memory of what is sampled."""
        sigmas = ddpm_sigmas(params.steps).tolist()
        nothing = images.new_zeros(0, 2 * images.shape[1], *images.shape[2:])

        def infer(view: int) -> Tensor:
            conditions = sampler.conditions([ViewGroup(cameras=cameras[[view]], given=nothing, seed=seeds[view])])
            denoise = guided_denoiser(self.unet, conditions, sampler.empty_text, guidance_scale=1.0)
            generators = seeded_generators([seeds[view]])
            noises = [draw_noise(conditions.clean.shape, generators, images.device) for _ in range(params.draws)]
            draws = [
                infer_normal_latents(
                    denoise, images[[view]], noise, params, lambda step, latents: advance(step, sigmas[step], latents)
                )
                for noise in noises
            ]
            return mean_of_best(draws)

        return torch.cat([infer(view) for view in range(len(images))])

    def _check_parts(self) -> None:
        """Raises ValueError for parts that don't fit each other."""
        width = self.conditioner.text_encoder.config.hidden_size
        for name, expected, got in (
            ("unet: cross_attention_dim", width, self.unet.unet.config["cross_attention_dim"]),
            ("vae: latent_channels", self.unet.latent_channels, self.vae.config["latent_channels"]),
        ):
            if got != expected:
                raise ValueError(f"{name}: expected {expected}, as the other parts have it, got {got}")

    def _text(
        self, identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None
    ) -> tuple[Float[Tensor, "1 word state"], Float[Tensor, "1 word state"]]:
        """Text states with and without the identity."""
        empty = self.conditioner.unconditional(1)
        if identity is None:
            return empty, empty
        embedding = torch.as_tensor(identity, dtype=torch.float32, device=self._execution_device)
        if embedding.shape != (IDENTITY_WIDTH,) or not bool(embedding.isfinite().all()):
            raise ValueError(f"identity: expected {IDENTITY_WIDTH} finite numbers, got {_describe(embedding)}")
        if abs(length := float(embedding.norm()) - 1) > 1e-2:
            raise ValueError(f"identity: expected a vector of length 1, got one of {length + 1:.3g}; normalise it")
        return self.conditioner(embedding[None].to(self.text_encoder.dtype)), empty

    def _encode(
        self, conditioning: PosedViews | None
    ) -> tuple[Float[Tensor, "view channel height width"], Float[Tensor, "view channel height width"] | None]:
        """Latents of the conditioning views' images and of their normals, where they have some."""
        side, device = self.unet.config["base"]["sample_size"], self._execution_device
        if conditioning is None:
            nothing = torch.zeros(0, self.unet.latent_channels, side, side, device=device)
            return nothing, nothing
        check_cameras("conditioning", conditioning.cameras)
        images = self._picture_latents("images", conditioning.images, len(conditioning.cameras))
        if conditioning.normals is None:
            return images, None
        return images, self._picture_latents("normals", conditioning.normals, len(conditioning.cameras))

    def _picture_latents(
        self, name: str, pictures: PipelineImageInput, views: int
    ) -> Float[Tensor, "{views} channel height width"]:
        bounded = _in_unit_range(f"conditioning {name}", pictures)
        prepared = self.image_processor.preprocess(bounded).to(self._execution_device)  # in [-1, 1]
        expected = (views, 3, self.picture_side, self.picture_side)
        if prepared.shape != expected:
            raise ValueError(f"conditioning {name}: expected shape {expected}, got {tuple(prepared.shape)}")
        return encode_pictures(self.vae, prepared)

    def _decode(self, latents: Float[Tensor, "view channel height width"], output_type: str) -> SpinMeRoundOutput:
        halves = rearrange(latents, "v (k c) h w -> k v c h w", k=2)
        if output_type == "latent":
            return SpinMeRoundOutput(images=halves[0], normals=halves[1])
        pictures = [self._pictures(half) for half in halves]
        images, normals = (self.image_processor.postprocess(half, output_type) for half in pictures)
        return SpinMeRoundOutput(images=images, normals=normals)

    def _pictures(self, latents: Float[Tensor, "view channel height width"]) -> Float[Tensor, "view 3 side side"]:
        """Decoded in parts that fit into memory."""
        size = pictures_that_fit(self.vae, self.picture_side, len(latents))
        parts = [latents[start : start + size] for start in range(0, len(latents), size)]
        return torch.cat([in_halves(lambda part: decode_pictures(self.vae, part), part) for part in parts])


def _in_unit_range(name: str, pictures: Any) -> Any:
    """The pictures, within [0, 1] where they are arrays; diffusers takes any number below 0 for a range of [-1, 1].

    Raises ValueError for arrays that exceed it by more than rounding.
    """
    if isinstance(pictures, list | tuple):
        return [_in_unit_range(name, picture) for picture in pictures]
    if not isinstance(pictures, np.ndarray | Tensor):
        return pictures
    low, high = float(pictures.min()), float(pictures.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"{name}: expected values in [0, 1], got {low:.3g} to {high:.3g}")
    return pictures.clip(0, 1)


def _describe(embedding: Tensor) -> str:
    finite = int(embedding.isfinite().sum())
    return f"shape {tuple(embedding.shape)} with {embedding.numel() - finite} not finite"
