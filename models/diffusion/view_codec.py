"""Pictures and normal maps of views as latents of the model, and back.

Pictures are in [0, 1], normals encoded as in the dataset, (n + 1) / 2 in the world frame. In latents, normals are in
the frame that the model was trained on, so they are turned before the autoencoder sees them and back after it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.utils.outputs import BaseOutput
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.latents import Autoencoder, decode_images, downsampling, encode_images, pair_latents
from spinmeround.models.diffusion.normals_frame import turn_normals
from spinmeround.models.diffusion.params import NormalsFrame
from spinmeround.models.diffusion.pipeline_inputs import in_unit_range
from spinmeround.models.diffusion.sampling.group_sampler import FramedLatents, camera_rotations
from spinmeround.models.diffusion.sampling.memory import halve_on_out_of_memory, max_image_batch
from spinmeround.models.diffusion.statistics import Half
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.geometry.camera_checks import check_cameras
from spinmeround.models.geometry.camera_world import check_sees_head
from spinmeround.models.geometry.cameras import Cameras


@dataclass
class SpinMeRoundOutput(BaseOutput):
    """One image and one normal map per target camera, in request order, in the format of `output_type`.

    `given_normals` are the normals of the conditioning views, given or inferred; None without such views. A model
    without normals has none of both.
    """

    images: Any
    normals: Any = None
    given_normals: Any = None


@dataclass(frozen=True, kw_only=True)
class PosedViews:
    """Conditioning views. Images as in diffusers: PIL, numpy (n, H, W, 3) or torch (n, 3, H, W) in [0, 1].

    Without `normals`, these are inferred from the images by the paper's Algorithm 1.
    """

    cameras: Cameras
    images: PipelineImageInput
    normals: PipelineImageInput | None = None


@dataclass(frozen=True, kw_only=True)
class ViewCodec:
    """Encodes and decodes views by an autoencoder, with the statistics and the normals of a UNet.

    Latents are as the UNet sees them: channels of the picture, then, if it has normals, those of the normals.
    """

    unet: MultiviewUNet
    vae: Autoencoder
    processor: VaeImageProcessor
    normals_frame: NormalsFrame
    device: torch.device

    @property
    def image_side(self) -> int:
        """Side of the model's input and output images, in pixels."""
        side: int = self.unet.config["base"]["sample_size"]
        return side * downsampling(self.vae)

    def encode(
        self, views: PosedViews | None
    ) -> tuple[Float[Tensor, "view channel height width"], Float[Tensor, "view channel height width"] | None]:
        """Latents of the conditioning views' images and of their normals, None where these are missing or unused.

        Raises ValueError for cameras that do not see the head, and for images of another size or range.
        """
        side = self.unet.config["base"]["sample_size"]
        if views is None:
            nothing = torch.zeros(0, self.unet.latent_channels, side, side, device=self.device)
            return nothing, nothing if self.unet.has_normals else None
        check_cameras("conditioning_views", views.cameras)
        check_sees_head("conditioning_views", views.cameras)
        images = self._latents(self._prepared("images", views.images, len(views.cameras)), "image")
        if views.normals is None or not self.unet.has_normals:
            return images, None
        normals = self._prepared("normals", views.normals, len(views.cameras))
        return images, self._latents(turn_normals(normals, self.rotations(views.cameras)), "normals")

    def decode(self, views: FramedLatents, output_type: str) -> SpinMeRoundOutput:
        """Images and normals of latents; "latent" leaves both encoded, and the normals in `normals_frame`."""
        halves = self.unet.halves
        if output_type == "latent":
            images, *normals = rearrange(self.unet.restored(views.latents), "v (k c) h w -> k v c h w", k=halves)
            return SpinMeRoundOutput(images=images, normals=normals[0] if normals else None)
        images, *normals = rearrange(views.latents, "v (k c) h w -> k v c h w", k=halves)
        output = SpinMeRoundOutput(images=self._postprocessed(self._decode_images(images, "image"), output_type))
        if normals:
            decoded = turn_normals(self._decode_images(normals[0], "normals"), views.world2frame.mT)
            output.normals = self._postprocessed(decoded, output_type)
        return output

    def rotations(self, cameras: Cameras | None) -> Float[Tensor, "view 3 3"]:
        """Rotations from the world into the frame of given views' normals, each view a group of one."""
        if cameras is None:
            return torch.zeros(0, 3, 3, device=self.device)
        each = [camera_rotations(cameras[[view]], self.normals_frame) for view in range(len(cameras))]
        return torch.cat(each).to(self.device)

    def reframe(
        self, views: FramedLatents, world2frame: Float[Tensor, "view 3 3"]
    ) -> Float[Tensor, "view channel height width"]:
        """Latents of the same views with their normals, if any, in other frames: decoded, turned and encoded again."""
        if not self.unet.has_normals:
            return views.latents
        images, normals = rearrange(views.latents, "v (k c) h w -> k v c h w", k=2)
        turned = turn_normals(self._decode_images(normals, "normals"), world2frame @ views.world2frame.mT)
        return pair_latents(images, self._latents(turned, "normals"))

    def _latents(
        self, images: Float[Tensor, "view 3 side side"], half: Half
    ) -> Float[Tensor, "view channel height width"]:
        """Latents as the model sees them."""
        return self.unet.normalised(encode_images(self.vae, images), half)

    def _prepared(self, name: str, images: PipelineImageInput, views: int) -> Float[Tensor, "{views} 3 side side"]:
        """Checked conditioning images in [-1, 1], on the execution device."""
        bounded = in_unit_range(f"conditioning_views.{name}", images)
        prepared: Tensor = self.processor.preprocess(bounded).to(self.device)  # in [-1, 1]
        expected = (views, 3, self.image_side, self.image_side)
        if prepared.shape != expected:
            raise ValueError(f"conditioning_views.{name}: expected shape {expected}, got {tuple(prepared.shape)}")
        return prepared

    def _postprocessed(self, images: Float[Tensor, "view 3 side side"], output_type: str) -> Any:
        return self.processor.postprocess(images, output_type)

    def _decode_images(
        self, latents: Float[Tensor, "view channel height width"], half: Half
    ) -> Float[Tensor, "view 3 side side"]:
        """Decodes latents of the model in batches that fit into memory."""
        latents = self.unet.restored(latents, half)
        size = max_image_batch(self.vae, self.image_side, len(latents))
        parts = [latents[start : start + size] for start in range(0, len(latents), size)]
        return torch.cat([halve_on_out_of_memory(lambda part: decode_images(self.vae, part), part) for part in parts])
