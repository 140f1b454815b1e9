"""SpinMeRoundPipeline: images and normal maps of a head from any cameras.

Conditions are an identity embedding, 1 or 3 posed views, both or neither. Normals of posed views are given or inferred.
Targets are generated in groups of the network's P views, of which M are conditioning views. If a request exceeds one
group, a ring of anchors is generated first, and every view is conditioned on the given view (the front if there is
none) and its two nearest anchors. A target at the camera of a conditioning view returns that view. Images are in
[0, 1]; normals are encoded as in the dataset, (n + 1) / 2 in the world frame. Inside the model they are in the frame
`normals_frame` of its configuration, into which and back the pipeline turns them.

A model without normals generates images alone. One that is conditioned on the identity or on images alone
(`conditioned_on`) ignores the other: of given views it then sees the cameras, as after condition dropout.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor
from transformers import CLIPTextModel

from spinmeround.models.device import warn_of_emulation
from spinmeround.models.diffusion.latents import (
    Autoencoder,
    downsampling,
    pair_latents,
)
from spinmeround.models.diffusion.params import (
    ConditionedOn,
    NoiseSchedule,
    NormalsFrame,
    PhotoNormalsParams,
    SolverParams,
    default_guidance_scale,
)
from spinmeround.models.diffusion.pipeline_inputs import checked_identity
from spinmeround.models.diffusion.sampling.group_sampler import (
    BatchCallback,
    FramedLatents,
    GroupSampler,
    Seeds,
    generate_views,
)
from spinmeround.models.diffusion.sampling.view_normals import infer_view_normals
from spinmeround.models.diffusion.sampling.view_plan import ViewPlan, plan_views
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.diffusion.view_codec import PosedViews, SpinMeRoundOutput, ViewCodec
from spinmeround.models.geometry.camera_checks import check_cameras
from spinmeround.models.geometry.camera_world import check_sees_head
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder

__all__ = ["PosedViews", "SpinMeRoundOutput", "SpinMeRoundPipeline", "StepEndCallback"]

StepEndCallback = Callable[["SpinMeRoundPipeline", int, float, dict[str, Tensor]], dict[str, Tensor] | None]
"""diffusers' `callback_on_step_end`: called with pipeline, step, noise level and {"latents": ...}; returned latents
replace these."""


class SpinMeRoundPipeline(DiffusionPipeline):
    """A multiview UNet, an autoencoder and an Arc2Face text encoder; `prompt` holds the fields of PromptTokens.

    `normals_frame` is the frame of the normals that the UNet was trained on. A saved pipeline without it is of an
    earlier version, whose normals were in the world frame. `conditioned_on` is what the UNet was conditioned on in its
    training.
    """

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
        normals_frame: str = "world",
        conditioned_on: str = "both",
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, vae=vae, text_encoder=text_encoder)  # type: ignore[no-untyped-call]
        tokens = PromptTokens(**(prompt or {}))
        for name, value, kinds in (
            ("normals_frame", normals_frame, get_args(NormalsFrame)),
            ("conditioned_on", conditioned_on, get_args(ConditionedOn)),
        ):
            if value not in kinds:
                raise ValueError(f"{name}: expected one of {', '.join(kinds)}, got {value!r}")
        self.register_to_config(  # type: ignore[no-untyped-call]
            prompt=tokens.model_dump(mode="json"), normals_frame=normals_frame, conditioned_on=conditioned_on
        )
        self.image_processor = VaeImageProcessor(
            vae_scale_factor=downsampling(vae), vae_latent_channels=vae.config["latent_channels"], do_resize=False
        )
        self._check_components()

    @property
    def prompt_encoder(self) -> IdentityPromptEncoder:
        """Encodes identity embeddings with this pipeline's text encoder."""
        return IdentityPromptEncoder(self.text_encoder, PromptTokens(**self.config["prompt"]))

    @property
    def normals_frame(self) -> NormalsFrame:
        """Frame of the normals inside the model."""
        frame: NormalsFrame = self.config["normals_frame"]
        return frame

    @property
    def conditioned_on(self) -> ConditionedOn:
        """What the model is conditioned on beside cameras."""
        found: ConditionedOn = self.config["conditioned_on"]
        return found

    @property
    def image_side(self) -> int:
        """Side of the model's input and output images, in pixels."""
        return self._codec.image_side

    @property
    def _codec(self) -> ViewCodec:
        """Encodes and decodes views where the networks are now, which offloading changes."""
        return ViewCodec(
            unet=self.unet,
            vae=self.vae,
            processor=self.image_processor,
            normals_frame=self.normals_frame,
            device=self._execution_device,
        )

    @torch.no_grad()
    def __call__(
        self,
        cameras: Cameras,
        *,
        identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None = None,
        conditioning_views: PosedViews | None = None,
        anchored: bool | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int = 50,
        schedule: NoiseSchedule | None = None,
        solver: SolverParams | None = None,
        photo_normals: PhotoNormalsParams | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        output_type: str = "pil",
        callback_on_step_end: StepEndCallback | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> SpinMeRoundOutput:
        """Generates the views of `cameras`.

        `identity` is a unit-length ArcFace embedding. `guidance_scale` defaults to 3, or 3.5 without conditioning
        views, where sampling also starts from sigma 700 instead of 80, unless a `schedule` states its sigma_max. A
        `schedule` replaces `num_inference_steps`. `anchored` False makes groups independent of each other; this is the
        default if one group holds all views, three views are given or the model ignores images. Cameras are relative to
        the given view nearest to the front, which should show part of the face. `photo_normals` configures how missing
        normals are inferred. `batch_size` is the number of groups per batch, by default as many as fit into memory; it
        changes results by rounding alone. `output_type` is "pil", "np", "pt" or "latent", which leaves normals in
        `normals_frame`. `on_progress(done, total)` counts the steps of all groups.

        Raises ValueError for other than 0, 1 or 3 conditioning views or two at the same camera; images of the wrong
        size or with values outside [0, 1]; cameras inside the head, that do not see it, not rigid or with invalid
        intrinsics; and an embedding that is not finite or not of unit length.
        """
        check_cameras("cameras", cameras)
        check_sees_head("cameras", cameras)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size: expected 1 or more, got {batch_size}")
        given_cameras = None if conditioning_views is None else conditioning_views.cameras
        if anchored is None and self.conditioned_on == "identity":
            anchored = False  # of anchors it would see the cameras alone
        plan = plan_views(cameras, given_cameras, self.unet.config["views"], anchored)
        schedule, solver = schedule or NoiseSchedule(steps=num_inference_steps), solver or SolverParams()
        sampler = self._samplers(identity, guidance_scale, schedule, solver, batch_size)
        photo_normals, seeds = photo_normals or PhotoNormalsParams(), Seeds(generator=generator)
        codec = self._codec
        images, normals = codec.encode(conditioning_views)
        infers = normals is None and self.unet.has_normals
        steps = _steps_of_plan(plan, sampler) + (_steps_of_normals(photo_normals, images) if infers else 0)
        with self.progress_bar(total=steps) as bar:
            callback = self._callback(steps, bar, callback_on_step_end, on_progress)
            if infers:
                assert given_cameras is not None
                draws = seeds(len(given_cameras))
                normals = infer_view_normals(images, given_cameras, sampler(0), photo_normals, draws, callback)
            latents = images if normals is None else pair_latents(images, normals)
            given = FramedLatents(latents=latents, world2frame=codec.rotations(given_cameras))
            given_views, frame = (given_cameras, given), self.normals_frame
            views = generate_views(plan, given_views, sampler, seeds, callback, frame=frame, reframe=codec.reframe)
        return self._output(views, given if conditioning_views is not None else None, output_type)

    @torch.no_grad()
    def infer_normals(
        self,
        views: PosedViews,
        *,
        identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None = None,
        photo_normals: PhotoNormalsParams | None = None,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
    ) -> Any:
        """Normal maps of posed images by the paper's Algorithm 1, each view independently; ignores `views.normals`.

        Raises ValueError as `__call__` does, and for a model without normals.
        """
        if not self.unet.has_normals:
            raise ValueError("infer_normals: expected a model with normals, this one generates images alone")
        photo_normals = photo_normals or PhotoNormalsParams()
        sampler = self._samplers(identity, 1.0, NoiseSchedule(), SolverParams(), None)(0)
        codec = self._codec
        images, _ = codec.encode(replace(views, normals=None))
        steps = _steps_of_normals(photo_normals, images)
        with self.progress_bar(total=steps) as bar:
            callback = self._callback(steps, bar, None, None)
            seeds = Seeds(generator=generator)(len(images))
            normals = infer_view_normals(images, views.cameras, sampler, photo_normals, seeds, callback)
        inferred = FramedLatents(latents=pair_latents(images, normals), world2frame=codec.rotations(views.cameras))
        output = codec.decode(inferred, output_type)
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]
        return output.normals

    def _samplers(
        self,
        identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None,
        guidance_scale: float | None,
        schedule: NoiseSchedule,
        solver: SolverParams,
        batch_size: int | None,
    ) -> Callable[[int], GroupSampler]:
        """Samplers of groups by their number of conditioning views; the prompts are encoded once."""
        prompt_embeds, empty_prompt_embeds = self._encode_prompt(identity)

        def sampler(known: int) -> GroupSampler:
            return GroupSampler(
                unet=self.unet,
                prompt_embeds=prompt_embeds,
                empty_prompt_embeds=empty_prompt_embeds,
                guidance_scale=default_guidance_scale(known) if guidance_scale is None else guidance_scale,
                schedule=schedule,
                solver=solver,
                batch_size=batch_size,
                drop_images=self.conditioned_on == "identity",
            )

        return sampler

    def _callback(
        self,
        total: int,
        bar: Any,
        callback_on_step_end: StepEndCallback | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> BatchCallback:
        """After each step of a batch: updates the progress bar, then calls `on_progress` and `callback_on_step_end`."""
        done = 0

        def callback(step: int, sigma: float, latents: Tensor) -> Tensor | None:
            nonlocal done
            done += len(latents)
            bar.update(len(latents))
            if on_progress is not None:
                on_progress(done, total)
            if callback_on_step_end is None:
                return None
            replaced = callback_on_step_end(self, step, sigma, {"latents": latents})
            return None if replaced is None else replaced.get("latents")

        return callback

    def _check_components(self) -> None:
        """Raises ValueError for incompatible components."""
        width = self.prompt_encoder.text_encoder.config.hidden_size
        for name, expected, got in (
            ("unet: cross_attention_dim", width, self.unet.unet.config["cross_attention_dim"]),
            ("vae: latent_channels", self.unet.latent_channels, self.vae.config["latent_channels"]),
        ):
            if got != expected:
                raise ValueError(f"{name}: expected {expected} to match the other components, got {got}")

    def _encode_prompt(
        self, identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"] | None
    ) -> tuple[Float[Tensor, "1 text_token text_channel"], Float[Tensor, "1 text_token text_channel"]]:
        """Prompt embeddings with the identity, and those of the empty prompt; the first step of a generation."""
        warn_of_emulation(self.unet.dtype, self._execution_device, "load the pipeline with dtype=torch.float32")
        empty = self.prompt_encoder.empty_prompt(1)
        if identity is None:
            return empty, empty
        embedding = checked_identity(identity, self._execution_device)
        if self.conditioned_on == "image":
            return empty, empty
        return self.prompt_encoder(embedding[None].to(self.text_encoder.dtype)), empty

    def _output(self, views: FramedLatents, given: FramedLatents | None, output_type: str) -> SpinMeRoundOutput:
        """The generated views and the normals of the given ones; the last step of a generation."""
        output = self._codec.decode(views, output_type)
        if given is not None:
            output.given_normals = self._codec.decode(given, output_type).normals
        self.maybe_free_model_hooks()  # type: ignore[no-untyped-call]
        return output


def _steps_of_plan(plan: ViewPlan, sampler: Callable[[int], GroupSampler]) -> int:
    """Steps of all groups of a plan."""
    groups = [group for stage in plan.stages for group in stage.groups]
    return sum(sampler(len(group.conditioning_indices)).schedule.steps for group in groups)


def _steps_of_normals(params: PhotoNormalsParams, images: Float[Tensor, "view channel height width"]) -> int:
    """Steps of the inference of these views' normals."""
    return params.steps * params.draws * len(images)
