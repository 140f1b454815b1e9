"""Tiny networks of the production classes with random weights, and conditions for them."""

import weakref
from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from einops import rearrange
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.diffusion.denoiser import Conditions
from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.models.diffusion.unet import MultiviewUNet, build_unet
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.prompt import PromptTokens

TINY = UNetParams(
    sample_size=4,
    views=4,
    block_out_channels=(16, 32),
    layers_per_block=1,
    attention_levels=(True, False),
    multiview_factors=(1, 2),
    attention_heads=2,
    norm_groups=4,
    cross_attention_dim=512,
)
TINY_PROMPT = PromptTokens(words=(2, 3, 4, 5, 6), identity=5, start=0, end=1, padding=1, length=8)


def tiny_unet(*, active_3d: bool = True, **changes: object) -> MultiviewUNet:
    """A tiny multiview UNet; `active_3d` randomises the output projections of its 3D layers."""
    torch.manual_seed(0)
    unet = build_unet(UNetParams(**{**TINY.model_dump(), **changes})).eval()
    if active_3d:
        randomise_3d(unet)
    return unet


def randomise_3d(unet: MultiviewUNet) -> None:
    """Randomises the output projections of the 3D layers, which are initialised to zero."""
    for name, weight in unet.named_parameters():
        if "attn_3d.to_out" in name:
            torch.nn.init.normal_(weight, std=0.2)


def base_unet(**changes: object) -> UNet2DConditionModel:
    """A tiny Stable Diffusion UNet."""
    torch.manual_seed(1)
    config = {
        "sample_size": 4,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "norm_num_groups": 4,
        "cross_attention_dim": 512,
    }
    return UNet2DConditionModel(**{**config, **changes}).eval()


def tiny_text_encoder(**changes: int) -> CLIPTextModel:
    """A two-layer CLIP text encoder for TINY_PROMPT."""
    torch.manual_seed(2)
    config = {
        "vocab_size": 7,
        "hidden_size": 512,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "max_position_embeddings": 8,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    return CLIPTextModel(CLIPTextConfig(**{**config, **changes})).eval()


def tiny_autoencoder() -> AutoencoderKL:
    """An autoencoder from 8 x 8 images to latents of 4 x 4 x 4."""
    torch.manual_seed(3)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    ).eval()


def sd_like_autoencoder() -> AutoencoderKL:
    """An autoencoder with Stable Diffusion's four levels of two blocks, at a quarter of the width."""
    return AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
    ).eval()


def poses(batch: int, views: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cam2world and intrinsics of `batch` groups of cameras from all over the view grid."""
    grid = ViewGrid().cameras()
    chosen = [(37 * i) % len(grid) for i in range(batch * views)]
    cameras = grid[chosen]
    return tuple(
        rearrange(torch.from_numpy(array), "(b p) i j -> b p i j", p=views)
        for array in (cameras.cam2world, cameras.intrinsics)
    )


def conditions(batch: int = 2, views: int = 4, given: int = 1, seed: int = 0) -> Conditions:
    """Random conditions for tiny networks; the first `given` views of each sample are conditioning views."""
    generator = torch.Generator().manual_seed(seed)
    is_conditioning = (torch.arange(views) < given).expand(batch, -1)
    return Conditions(
        is_conditioning=is_conditioning,
        conditioning_latents=torch.randn(batch, views, 8, 4, 4, generator=generator),
        rays=encode_rays(*poses(batch, views), reference=reference_view(is_conditioning), resolution=4),
        prompt_embeds=torch.randn(batch, 8, 512, generator=generator),
    )


class LiveTensors(TorchDispatchMode):
    """Tracks the live storages that operations allocate: their peak total and the largest one, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.largest = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        inputs = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), inputs)
        return out

    def _count(self, storage: torch.UntypedStorage, inputs: set[int]) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in inputs or address in self._seen:
            return
        self._seen.add(address)
        self.now += size
        self.peak, self.largest = max(self.peak, self.now), max(self.largest, size)
        weakref.finalize(storage, self._free, address, size)

    def _free(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size


def largest_live_bytes(call: Callable[[], object]) -> int:
    """Peak bytes of the live tensors that `call` allocates."""
    with LiveTensors() as live:
        call()
    return live.peak
