"""Overfitted on one batch of 8 views, the loss goes to near zero, and `generate` gives these views back.

The autoencoder is fitted to the pictures of the head first. It has the paper's 4 channels, so that the UNet is many
times as wide as the latents of a view: with the 32 channels of the embedded one, a UNet of this width takes far longer
to learn to pass their noise on.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from spinmeround.models.diffusion.latents import decode_images, encode_images
from spinmeround.models.diffusion.normals_frame import turn_normals, world2frame
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.metrics import normal_angular_error_deg, psnr
from spinmeround.storage.dataset import HeadArrays, HeadDataset
from spinmeround.tasks.embedded.autoencoder import make_autoencoder, reconstruction_loss
from spinmeround.tasks.embedded.params import AutoencoderParams
from spinmeround.tasks.generation.params import GenerationParams, HeadInput
from spinmeround.tasks.generation.run import run_generation
from spinmeround.tasks.heads.autoencoder import as_images
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.data.batches import TrainingBatches
from spinmeround.tasks.training.output.result import as_pipeline
from spinmeround.tasks.training.params import InitialParams, TrainParams
from spinmeround.tasks.training.params.phases import GroupParams, MultiViewPhase
from spinmeround.tasks.training.run import run_training
from spinmeround.tasks.training.step import GroupLoss, StepNoise
from tests.tasks.training.conftest import AROUND, rendered_head, write_dataset

Pictures = UInt8[np.ndarray, "view height width 3"]
SIGMAS = (0.5, 2.0, 10.0, 50.0)
FRONT_GIVEN = GroupParams(conditioning=1, targets=7, facing_deg=10.0)
"""Of 8 views the front is always the given one, so each step has the same batch."""


def camera_images(head: HeadArrays) -> Float[Tensor, "image 3 side side"]:
    """The pictures of a head, then its normals in the frames of their cameras, as they are encoded."""
    return torch.cat([as_images(head.rgb), turn_normals(as_images(head.normals), rotations(head))])


def rotations(head: HeadArrays) -> Float[Tensor, "view 3 3"]:
    """From the world into the cameras."""
    return world2frame("camera", torch.from_numpy(head.cam2world))


def fitted_autoencoder(head: HeadArrays, *, steps: int) -> AutoencoderDC:
    """An autoencoder of the pictures and normals of a head."""
    torch.manual_seed(0)
    images = camera_images(head)
    autoencoder = make_autoencoder(AutoencoderParams(channels=(16, 32, 64, 128), latent_channels=4))
    optimiser = torch.optim.AdamW(autoencoder.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        chosen = images[torch.randperm(len(images))[:8]]
        latents = autoencoder.encode(chosen).latent
        noisy = latents + 0.05 * latents.detach().std((0, 2, 3), keepdim=True) * torch.randn_like(latents)
        loss = reconstruction_loss(autoencoder.decode(noisy).sample, chosen, 0.5)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        autoencoder.register_to_config(scaling_factor=1 / float(autoencoder.encode(images).latent.std()))
    return autoencoder.eval().requires_grad_(False)


def fixed_losses(params: TrainParams, dataset: Path, encode: EncodeParams) -> dict[float, float]:
    """The loss of the batch at fixed noise levels, by the networks that a training with `params` begins with."""
    groups = TrainingBatches(HeadDataset.open(dataset), [0], params, encode).read(0)
    loss = GroupLoss(build_initial_networks(params).requires_grad_(False), params)
    return {sigma: float(loss(groups, StepNoise.fixed(groups, sigma, seed=1)).mean()) for sigma in SIGMAS}


class Views:
    """The true views of a head but the given first one, and how far others are from them."""

    def __init__(self, head: HeadArrays) -> None:
        self.rgb, self.mask = head.rgb[1:], head.mask[1:]
        self.normals = decode_normals(head.normals[1:], self.mask)

    def distance(self, rgb: Pictures, normals: Pictures) -> tuple[float, float]:
        """Mean PSNR in dB of pictures, and mean angle in degrees of encoded normals on the head."""
        decoded = normals.astype(np.float32) / 127.5 - 1
        angle = normal_angular_error_deg(decoded, self.normals, self.mask == 255)
        return float(psnr(rgb, self.rgb).mean()), angle.mean


def generated(pipeline: Path, dataset: Path, folder: Path) -> tuple[Pictures, Pictures]:
    """Pictures and normals of all views but the given one, as `generate` writes them."""
    given = HeadInput(head=HeadDataset.open(dataset).ids[0], views=("front",))
    run_generation(pipeline, dataset, GenerationParams(given=given, views=AROUND, guidance_scale=1.0), folder)
    rgb, normals = (
        np.stack([np.asarray(Image.open(folder / f"{kind}-{view:02d}.png").convert("RGB")) for view in range(1, 8)])
        for kind in ("view", "normals")
    )
    return rgb, normals


def reconstructed(head: HeadArrays, autoencoder: AutoencoderDC) -> tuple[Pictures, Pictures]:
    """The same views after the autoencoder alone, the best that its latents allow."""
    images = camera_images(head)
    rgb, normals = torch.chunk(decode_images(autoencoder, encode_images(autoencoder, images)), 2)
    normals = turn_normals(normals, rotations(head).mT)
    halves = [
        (half[1:].clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy() for half in (rgb, normals)
    ]
    return halves[0], halves[1]


def mean_views(head: HeadArrays) -> tuple[Pictures, Pictures]:
    """The mean of the views in place of each, the best without a pose."""
    halves = [
        np.broadcast_to(each[1:].mean(0).round().astype(np.uint8), each[1:].shape) for each in (head.rgb, head.normals)
    ]
    return halves[0], halves[1]


@pytest.mark.slow
def test_an_overfitted_training_gives_its_views_back(head_params: Callable[..., TrainParams], tmp_path: Path) -> None:
    """1200 steps on one group, whose front is given, lower its loss to 5% of that before, at every noise level. The 7
    generated views are within 3 dB and 3 degrees of what the autoencoder allows. An untrained pipeline, and the mean of
    the views in place of each, are 8 dB and twice the angle away."""
    head, encode = rendered_head(3), EncodeParams(autoencoder=str(tmp_path / "autoencoder"))
    autoencoder = fitted_autoencoder(head, steps=400)
    autoencoder.save_pretrained(tmp_path / "autoencoder")
    dataset = write_dataset(head, encode, tmp_path)
    small = {"latent_channels": 4, "block_out_channels": (64, 64), "attention_levels": (False, True)}
    params = head_params(
        unet=head_params().unet.model_copy(update={**small, "multiview_factors": (2,)}),
        multi_view=MultiViewPhase(steps=1200, decay_steps=1200, groups=(FRONT_GIVEN,)),
        batch=2,
        learning_rate=2e-3,
        final_rate=0.02,
        condition_dropout=0.0,
        checkpoint_every=1200,
        keep_state=False,
    )
    result = run_training(dataset, params, encode, tmp_path / "checkpoints", tmp_path)
    trained = params.model_copy(update={"initial": InitialParams(unet=str(result.pipeline))})
    before, after = (fixed_losses(each, dataset, encode) for each in (params, trained))
    as_pipeline(build_initial_networks(params), params, encode).save_pretrained(tmp_path / "untrained")
    views = Views(head)
    found = {
        name: views.distance(*generated(tmp_path / name, dataset, tmp_path / f"of {name}"))
        for name in ("pipeline", "untrained")
    }
    found |= {
        "autoencoder": views.distance(*reconstructed(head, autoencoder)),
        "mean": views.distance(*mean_views(head)),
    }
    print(f"losses before {before}, after {after}; PSNR in dB, angle in degrees: {found}")
    assert all(after[sigma] <= 0.05 * before[sigma] for sigma in SIGMAS)
    (decibel, angle_deg), (best_decibel, best_angle_deg) = found["pipeline"], found["autoencoder"]
    assert decibel >= max(25.0, best_decibel - 3)
    assert angle_deg <= min(10.0, best_angle_deg + 3)
    for baseline in ("untrained", "mean"):
        assert found[baseline][0] <= decibel - 8
        assert found[baseline][1] >= 2 * angle_deg
