"""Networks from folders in the published layout: they load, train for a step and sample for a step."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss
from spinmeround.models.diffusion.params import NoiseSchedule
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.beginning.initial import grow_pipeline
from tests.models.diffusion.networks import TINY_PROMPT, base_unet, tiny_autoencoder, tiny_text_encoder

FULL_UNET = {"sample_size": 64, "cross_attention_dim": 768}  # the other defaults of diffusers are SD 1.5's
FULL_AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def write_tiny(folder: Path) -> None:
    base_unet().save_pretrained(folder / "arc2face" / "arc2face")
    tiny_text_encoder().save_pretrained(folder / "arc2face" / "encoder")
    tiny_autoencoder().save_pretrained(folder / "sd" / "vae")


def write_full(folder: Path) -> None:
    """Random weights in bfloat16, at the published sizes."""
    torch.manual_seed(0)
    for make, place in (
        (lambda: UNet2DConditionModel(**FULL_UNET, attention_head_dim=8), "arc2face/arc2face"),
        (lambda: CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)),
         "arc2face/encoder"),
        (lambda: AutoencoderKL(**FULL_AUTOENCODER), "sd/vae"),
    ):  # fmt: skip
        make().to(torch.bfloat16).save_pretrained(folder / place)


def train_one_step(pipeline: SpinMeRoundPipeline, views: int) -> float:
    """Take one step of AdamW on a random group; returns the loss."""
    unet = pipeline.unet.train()
    unet.enable_gradient_checkpointing()
    side = unet.config["base"]["sample_size"]
    cameras = ViewGrid(azimuths=views, elevations_deg=(0.0,)).cameras()
    is_conditioning = (torch.arange(views) < 1)[None]
    rays = encode_rays(
        torch.from_numpy(cameras.cam2world)[None],
        torch.from_numpy(cameras.intrinsics)[None],
        reference=reference_view(is_conditioning),
        resolution=side,
    )
    latents = torch.randn(1, views, 8, side, side, generator=torch.Generator().manual_seed(0))
    prompt_embeds = pipeline.prompt_encoder(torch.nn.functional.normalize(torch.randn(1, 512), dim=1))
    batch = TrainingBatch(
        latents=latents,
        is_conditioning=is_conditioning,
        rays=rays,
        prompt_embeds=prompt_embeds,
        empty_prompt_embeds=pipeline.prompt_encoder.empty_prompt(1),
        drop_identity=torch.tensor([False]),
        drop_images=torch.tensor([False]),
    )
    optimiser = torch.optim.AdamW([*unet.parameters(), *pipeline.text_encoder.parameters()], lr=1e-5)
    loss = multiview_loss(unet, batch, torch.tensor([1.5]), torch.randn_like(latents)).mean
    loss.backward()
    optimiser.step()
    unet.eval()
    return loss.item()


def check_start(
    write: Callable[[Path], None],
    folder: Path,
    prompt: PromptTokens,
    views: int,
    dtype: torch.dtype,
    factors: tuple[int, ...],
) -> SpinMeRoundPipeline:
    """Write folders, grow a pipeline, train and sample; all numbers are finite and the weights have changed."""
    write(folder)
    sources = folder / "sd", folder / "arc2face"
    pipeline = grow_pipeline(*sources, prompt=prompt, dtype=dtype, multiview_factors=factors)
    pipeline.set_progress_bar_config(disable=True)
    before = pipeline.unet.unet.conv_in.weight.detach().clone()
    assert torch.isfinite(torch.tensor(train_one_step(pipeline, views)))
    assert not torch.equal(pipeline.unet.unet.conv_in.weight, before)
    made = pipeline(
        ViewGrid(azimuths=views, elevations_deg=(0.0,)).cameras(),
        identity=torch.nn.functional.normalize(torch.ones(512), dim=0),
        schedule=NoiseSchedule(steps=1),
        anchored=False,
        batch_size=1,
        output_type="latent",
    )
    assert made.images.shape[0] == views
    assert bool(made.images.isfinite().all())
    return pipeline


def test_tiny_folders_start(tmp_path: Path) -> None:
    """A pipeline grown from folders in the published layout trains for a step and samples for a step."""
    pipeline = check_start(write_tiny, tmp_path, TINY_PROMPT, 4, torch.float32, (1, 2))
    assert pipeline.unet.latent_channels == 4


@pytest.mark.slow
def test_full_size_starts_in_24_gb(tmp_path: Path) -> None:
    """The sizes of Stable Diffusion 1.5 and Arc2Face, 8 views of 512 px: a UNet of 909 million parameters in bfloat16
    stays below 24 GB of resident memory."""
    pipeline = check_start(write_full, tmp_path, PromptTokens(), 8, torch.bfloat16, (1, 2, 4, 8))
    assert sum(weight.numel() for weight in pipeline.unet.parameters()) > 909_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < 24e9


def test_missing_folders_are_named(tmp_path: Path) -> None:
    """The error names the missing folder; a UNet of another kind is refused with the reason."""
    with pytest.raises(ConfigError, match=r"sd/vae: expected a model's folder with config\.json, found none"):
        grow_pipeline(tmp_path / "sd", tmp_path / "arc2face")
    write_tiny(tmp_path)
    base_unet(in_channels=9).save_pretrained(tmp_path / "arc2face" / "arc2face")
    with pytest.raises(ConfigError, match="arc2face: base: expected equal in_channels and out_channels"):
        grow_pipeline(tmp_path / "sd", tmp_path / "arc2face", prompt=TINY_PROMPT)
