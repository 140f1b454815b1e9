from dataclasses import replace

import pytest
import torch

from spinmeround.models.diffusion.latents import decoder_width, downsampling
from spinmeround.models.diffusion.params import NoiseSchedule, SolverParams
from spinmeround.models.diffusion.sampling.group_sampler import GroupSampler, ViewGroup
from spinmeround.models.diffusion.sampling.memory import (
    LIVE_DECODER_MAPS,
    group_bytes,
    max_group_batch,
    max_image_batch,
)
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.tasks.heads.autoencoder import load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from tests.models.diffusion.networks import largest_live_bytes, sd_like_autoencoder, tiny_unet


def sampler(**changes: object) -> GroupSampler:
    prompt_embeds = torch.randn(2, 1, 8, 512, generator=torch.Generator().manual_seed(5))
    default = GroupSampler(
        unet=tiny_unet(),
        prompt_embeds=prompt_embeds[0],
        empty_prompt_embeds=prompt_embeds[1],
        guidance_scale=3.0,
        schedule=NoiseSchedule(steps=2),
        solver=SolverParams(),
    )
    return replace(default, **changes)


def groups(count: int) -> list[ViewGroup]:
    given = torch.randn(count, 1, 8, 4, 4, generator=torch.Generator().manual_seed(6))
    cameras = ViewGrid().cameras()
    return [
        ViewGroup(cameras=cameras[[0, i, i + 1, i + 2]], conditioning_latents=given[i], seed=i) for i in range(count)
    ]


def no_callback(step: int, sigma: float, latents: torch.Tensor) -> None:
    """Does nothing."""


@torch.no_grad()
def test_a_batch_that_exceeds_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for two groups at a time, a batch of five gives the same results as single groups."""
    expected = sampler(batch_size=1)(groups(5), no_callback)
    tested, sizes = sampler(batch_size=5), []
    inner = tested.unet.forward

    def forward(latents: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        sizes.append(len(latents))
        if len(latents) > 4:  # two groups in two branches
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return inner(latents, *args, **kwargs)

    monkeypatch.setattr(tested.unet, "forward", forward)
    torch.testing.assert_close(tested(groups(5), no_callback), expected, atol=1e-4, rtol=1e-4)
    assert max(sizes) == 10
    assert set(sizes) == {10, 4, 6, 2}


@torch.no_grad()
def test_other_errors_propagate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only out-of-memory errors trigger halving; a single group that does not fit raises the error."""
    for message, count in (("no kernel for this", 4), ("CUDA out of memory. Tried to allocate", 1)):
        tested = sampler(batch_size=4)

        def forward(*args: object, message: str = message, **kwargs: object) -> torch.Tensor:
            raise RuntimeError(message)

        monkeypatch.setattr(tested.unet, "forward", forward)
        with pytest.raises(RuntimeError, match=message):
            tested(groups(count), no_callback)


def test_batch_size_follows_free_memory() -> None:
    """The batch size grows with free memory from 1 to all groups, and halves with two guidance branches."""
    unet = tiny_unet()
    one = group_bytes(unet, branches=2)
    assert max_group_batch(unet, 9, branches=2, free=0) == 1
    assert max_group_batch(unet, 9, branches=2, free=int(one / 0.6 * 4.1)) == 4
    assert max_group_batch(unet, 9, branches=1, free=int(one / 0.6 * 4.1)) == 8
    assert max_group_batch(unet, 9, branches=2, free=one * 1000) == 9
    assert [len(batch) for batch in sampler(batch_size=2).batches(groups(5))] == [2, 2, 1]
    assert sum(len(batch) for batch in sampler().batches(groups(5))) == 5


@pytest.mark.parametrize("widths", [(32, 64), (64, 128, 256, 256)])
@torch.no_grad()
def test_the_estimate_bounds_the_memory_of_a_forward_pass(widths: tuple[int, ...]) -> None:
    """For networks shaped as Stable Diffusion's, the peak of live tensors without weights is between a third of the
    estimate and the estimate."""
    unet = tiny_unet(
        sample_size=16,
        block_out_channels=widths,
        layers_per_block=2,
        attention_levels=[True] * (len(widths) - 1) + [False],
        multiview_factors=(1,),
        norm_groups=8,
        cross_attention_dim=64,
    )
    shape = (2, 4, 8, 16, 16)
    arguments = {
        "mask": torch.zeros(2, 4, 1, 16, 16),
        "rays": torch.zeros(2, 4, 149, 16, 16),
        "encoder_hidden_states": torch.zeros(2, 8, 64),
    }
    peak = largest_live_bytes(lambda: unet(torch.zeros(shape), torch.zeros(2, 4), **arguments))
    estimate = group_bytes(unet, branches=2)
    assert estimate / 3 < peak < estimate, f"{peak / estimate:.2f} of the estimate"


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderDC"])
@torch.no_grad()
def test_the_estimate_bounds_the_memory_of_decoding(kind: str) -> None:
    """For one image, with Stable Diffusion's decoder architecture and with the embedded decoder."""
    vae = sd_like_autoencoder() if kind == "AutoencoderKL" else load_autoencoder(autoencoder_path(EncodeParams()))
    channels, side = vae.config["latent_channels"], 64
    latent = side // downsampling(vae)
    peak = largest_live_bytes(lambda: vae.decode(torch.zeros(1, channels, latent, latent)))
    estimate = 4 * LIVE_DECODER_MAPS * decoder_width(vae) * side**2
    assert estimate / 4 < peak < estimate, f"{peak / estimate:.2f} of the estimate"
    assert max_image_batch(vae, side, 9, free=int(estimate / 0.6 * 4.1)) == 4
    assert max_image_batch(vae, side, 9, free=0) == 1
