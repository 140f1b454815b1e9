"""SpinMeRoundPipeline: views of a head, as images and normals, from any cameras.

Given are an identity embedding, or 1 or 3 posed views with their normals, or both, or neither. Targets are generated in
groups of the network's P views, of which M are the conditioning ones; every group sees the same conditioning.
Pictures are in [0, 1], normals in the dataset's colours (n + 1) / 2 of the world frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel

from models.diffusion.denoiser import Conditions
from models.diffusion.edm import NoiseSchedule
from models.diffusion.groups import ALLOWED_CONDITIONING, check_cameras, plan_groups
from models.diffusion.guidance import guided_denoiser
from models.diffusion.latents import decode_pictures, downsampling, encode_pictures, pair_latents
from models.diffusion.params import SolverParams
from models.diffusion.rays import encode_rays, reference_view
from models.diffusion.sampler import draw_noise, edm_sampler, seeded_generators
from models.diffusion.unet import MultiviewUNet
from models.geometry.cameras import Cameras
from models.identity.conditioning import IDENTITY_WIDTH, IdentityConditioner
from models.identity.prompt import PromptTokens


@dataclass
class SpinMeRoundOutput(BaseOutput):
    """One image and one normal map a target camera, in the order asked, as `output_type` says."""

    images: Any
    normals: Any


@dataclass(frozen=True, kw_only=True)
class PosedViews:
    """Conditioning views. Pictures as diffusers takes them: PIL, numpy (n, H, W, 3) or torch (n, 3, H, W) in [0, 1]."""

    cameras: Cameras
    images: PipelineImageInput
    normals: PipelineImageInput


class SpinMeRoundPipeline(DiffusionPipeline):
    """A multiview UNet, an autoencoder and an Arc2Face text encoder; `prompt` holds the fields of PromptTokens."""

    unet: MultiviewUNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    model_cpu_offload_seq = "text_encoder->vae->unet"  # type: ignore[assignment]

    def __init__(
        self,
        unet: MultiviewUNet,
        vae: AutoencoderKL,
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

    @torch.no_grad()
    def __call__(
        self,
        cameras: Cameras,
        *,
        identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None = None,
        conditioning: PosedViews | None = None,
        guidance_scale: float | None = None,
        schedule: NoiseSchedule | None = None,
        solver: SolverParams | None = None,
        generator: torch.Generator | None = None,
        batch_size: int = 1,
        output_type: str = "pil",
        callback: Callable[[int, Tensor], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> SpinMeRoundOutput:
        """Generates the views of `cameras`.

        `identity` is a unit-length ArcFace embedding. `guidance_scale` is 3 by default, 3.5 without conditioning views,
        where sampling also starts from sigma 700 instead of 80. `batch_size` groups are generated at once, which
        changes results by rounding alone. `output_type` is "pil", "np", "pt" or "latent". `callback(step, latents)`
        follows each step, and so does `progress(done, steps)`, which counts over all batches. Raises ValueError for
        other than 0, 1 or 3 conditioning views, pictures of another size than the model's, a camera inside the head and
        a NaN embedding.
        """
        check_cameras("cameras", cameras)
        if batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
        given = 0 if conditioning is None else len(conditioning.cameras)
        schedule = schedule or NoiseSchedule(sigma_max=80.0 if given else 700.0)
        if guidance_scale is None:
            guidance_scale = 3.0 if given else 3.5
        groups = plan_groups(cameras, self._targets(given))
        text, empty = self._text(identity)
        clean = self._encode(conditioning)
        batches = [groups[start : start + batch_size] for start in range(0, len(groups), batch_size)]
        device = "cpu" if generator is None else generator.device
        seeds = torch.randint(2**62, (len(groups),), generator=generator, device=device).tolist()
        done, steps = count(1), len(batches) * schedule.steps
        with self.progress_bar(total=steps) as bar:

            def advance(step: int, latents: Tensor) -> None:
                bar.update()
                if progress is not None:
                    progress(next(done), steps)
                if callback is not None:
                    callback(step, latents)

            def generate(batch: list[list[int]], seeds: list[int]) -> Float[Tensor, "view channel height width"]:
                known = self._conditions(cameras, batch, conditioning, clean, text)
                denoise = guided_denoiser(self.unet, known, empty.expand(len(batch), -1, -1), guidance_scale)
                generators = seeded_generators(seeds)
                noise = draw_noise(known.clean.shape, generators, self._execution_device)
                latents = edm_sampler(denoise, noise, schedule.sigmas(), generators, solver, advance)
                return rearrange(latents[:, given:], "b p c h w -> (b p) c h w")

            latents = torch.cat([generate(batch, [seeds.pop(0) for _ in batch]) for batch in batches])
        generated = [target for group in groups for target in group]
        firsts = [generated.index(target) for target in range(len(cameras))]
        output = self._decode(latents[firsts], output_type)
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]
        return output

    def _check_parts(self) -> None:
        """Raises ValueError for parts that don't fit each other."""
        width = self.conditioner.text_encoder.config.hidden_size
        for name, expected, got in (
            ("unet: cross_attention_dim", width, self.unet.unet.config["cross_attention_dim"]),
            ("vae: latent_channels", self.unet.latent_channels, self.vae.config["latent_channels"]),
        ):
            if got != expected:
                raise ValueError(f"{name}: expected {expected}, as the other parts have it, got {got}")

    def _targets(self, given: int) -> int:
        """Targets of a group with this many conditioning views."""
        views: int = self.unet.config["views"]
        allowed = [m for m in ALLOWED_CONDITIONING if m < views]
        if given not in allowed:
            raise ValueError(f"conditioning: expected {' or '.join(map(str, allowed))} views, got {given}")
        return views - given

    def _text(
        self, identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None
    ) -> tuple[Float[Tensor, "1 word state"], Float[Tensor, "1 word state"]]:
        """Text states with and without the identity."""
        empty = self.conditioner.unconditional(1)
        if identity is None:
            return empty, empty
        embedding = torch.as_tensor(identity, dtype=self.text_encoder.dtype, device=self._execution_device)
        if embedding.shape != (IDENTITY_WIDTH,) or not bool(embedding.isfinite().all()):
            raise ValueError(f"identity: expected {IDENTITY_WIDTH} finite numbers, got {_describe(embedding)}")
        return self.conditioner(embedding[None]), empty

    def _encode(self, conditioning: PosedViews | None) -> Float[Tensor, "view channel height width"]:
        """Paired latents of the conditioning views; none of them without."""
        side = self.unet.config["base"]["sample_size"]
        if conditioning is None:
            return torch.zeros(0, 2 * self.unet.latent_channels, side, side, device=self._execution_device)
        check_cameras("conditioning", conditioning.cameras)
        latents = []
        for name in ("images", "normals"):
            pictures = self.image_processor.preprocess(getattr(conditioning, name)).to(self._execution_device)
            expected = (len(conditioning.cameras), 3, side * downsampling(self.vae), side * downsampling(self.vae))
            if pictures.shape != expected:
                raise ValueError(f"conditioning {name}: expected shape {expected}, got {tuple(pictures.shape)}")
            latents.append(encode_pictures(self.vae, pictures))
        return pair_latents(*latents)

    def _conditions(
        self,
        cameras: Cameras,
        groups: list[list[int]],
        conditioning: PosedViews | None,
        clean: Float[Tensor, "given channel height width"],
        text: Float[Tensor, "1 word state"],
    ) -> Conditions:
        """Conditions of a batch of groups; the conditioning views come first in each."""
        device, given = self._execution_device, len(clean)
        batch, views = len(groups), given + len(groups[0])
        is_given = (torch.arange(views, device=device) < given).expand(batch, -1)
        latents = torch.zeros(batch, views, *clean.shape[1:], device=device)
        latents[:, :given] = clean
        poses = {}
        for name in ("cam2world", "intrinsics"):
            targets = np.stack([getattr(cameras, name)[group] for group in groups])
            if conditioning is not None:
                first = np.broadcast_to(getattr(conditioning.cameras, name), (batch, given, *targets.shape[2:]))
                targets = np.concatenate([first, targets], axis=1)
            poses[name] = torch.from_numpy(targets).to(device)
        rays = encode_rays(
            poses["cam2world"],
            poses["intrinsics"],
            reference=reference_view(is_given),
            resolution=clean.shape[-1],
            encoding=self.unet.config["ray_encoding"],
        )
        return Conditions(conditioning=is_given, clean=latents, rays=rays, text=text.expand(batch, -1, -1))

    def _decode(self, latents: Float[Tensor, "view channel height width"], output_type: str) -> SpinMeRoundOutput:
        halves = rearrange(latents, "v (k c) h w -> k v c h w", k=2)
        if output_type == "latent":
            return SpinMeRoundOutput(images=halves[0], normals=halves[1])
        pictures = [decode_pictures(self.vae, half) for half in halves]
        images, normals = (self.image_processor.postprocess(half, output_type) for half in pictures)
        return SpinMeRoundOutput(images=images, normals=normals)


def _describe(embedding: Tensor) -> str:
    finite = int(embedding.isfinite().sum())
    return f"shape {tuple(embedding.shape)} with {embedding.numel() - finite} not finite"
