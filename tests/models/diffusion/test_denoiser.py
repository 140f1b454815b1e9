from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spinmeround.models.diffusion.denoiser import denoise
from spinmeround.models.diffusion.edm import CLEAN_SIGMA, noise_label, precondition
from spinmeround.models.diffusion.sampling.guidance import guided_denoiser
from tests.models.diffusion.networks import conditions, tiny_unet

SIGMA = torch.tensor([0.5, 20.0])


def noisy(seed: int = 3) -> Tensor:
    return torch.randn(2, 4, 8, 4, 4, generator=torch.Generator().manual_seed(seed))


def empty_prompt_embeds() -> Tensor:
    return torch.randn(1, 8, 512, generator=torch.Generator().manual_seed(9)).expand(2, -1, -1)


@torch.no_grad()
def test_denoiser_equals_its_formula() -> None:
    """D = c_skip x + c_out F(c_in x; c_noise), computed view by view. Conditioning views enter unscaled, with the label
    of CLEAN_SIGMA and mask 1, and are returned unchanged."""
    unet, given = tiny_unet(), conditions(given=1)
    latents, c_noise, mask = torch.empty(2, 4, 8, 4, 4), torch.empty(2, 4), torch.zeros(2, 4, 1, 4, 4)
    for b in range(2):
        scale = precondition(SIGMA[b])
        for v in range(4):
            latents[b, v] = given.conditioning_latents[b, v] if v == 0 else scale.c_in * noisy()[b, v]
            c_noise[b, v] = noise_label(torch.tensor(CLEAN_SIGMA)) if v == 0 else scale.c_noise
    mask[:, 0] = 1
    output = unet(latents, c_noise, mask=mask, rays=given.rays, encoder_hidden_states=given.prompt_embeds)
    got = denoise(unet, noisy(), SIGMA, given)
    for b in range(2):
        scale = precondition(SIGMA[b])
        expected = scale.c_skip * noisy()[b, 1:] + scale.c_out * output[b, 1:]
        torch.testing.assert_close(got[b, 1:], expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(got[:, 0], given.conditioning_latents[:, 0])


@torch.no_grad()
def test_noise_at_conditioning_views_is_ignored() -> None:
    """`noisy` at conditioning views and `conditioning_latents` at targets have no effect."""
    unet, given = tiny_unet(), conditions(given=3)
    before = denoise(unet, noisy(), SIGMA, given)
    changed, clean = noisy(), given.conditioning_latents.clone()
    changed[:, :3] = 100.0
    clean[:, 3] = 100.0
    torch.testing.assert_close(denoise(unet, changed, SIGMA, replace(given, conditioning_latents=clean)), before)


@torch.no_grad()
def test_a_bfloat16_network_returns_float32() -> None:
    """The network computes in bfloat16; noisy latents and result stay in float32."""
    unet, given = tiny_unet(), conditions()
    expected = denoise(unet, noisy(), SIGMA, given)
    got = denoise(unet.to(torch.bfloat16), noisy(), SIGMA, given)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=0.3, rtol=0.1)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
@torch.no_grad()
def test_guidance_equals_two_forwards(scale: float) -> None:
    """One forward pass for both branches equals D_uncond + scale (D_cond - D_uncond) from two passes."""
    unet, given = tiny_unet(), conditions()
    no_images = replace(
        given, conditioning_latents=torch.zeros_like(given.conditioning_latents), prompt_embeds=empty_prompt_embeds()
    )
    with_conditions, without = denoise(unet, noisy(), SIGMA, given), denoise(unet, noisy(), SIGMA, no_images)
    got = guided_denoiser(unet, given, empty_prompt_embeds(), scale)(noisy(), SIGMA)
    expected = without + scale * (with_conditions - without)
    torch.testing.assert_close(got[:, 1:], expected[:, 1:], atol=1e-4, rtol=1e-4)
    assert torch.equal(got[:, 0], given.conditioning_latents[:, 0])


@torch.no_grad()
def test_guidance_runs_the_network_once_per_call() -> None:
    """One forward pass: of both branches, or at scale 1 of the conditional branch alone."""
    unet, batches = tiny_unet(), []
    unet.register_forward_pre_hook(lambda module, args: batches.append(len(args[0])))
    for scale in (3.0, 1.0):
        got = guided_denoiser(unet, conditions(), empty_prompt_embeds(), scale)(noisy(), SIGMA)
    assert batches == [4, 2]
    torch.testing.assert_close(got, denoise(unet, noisy(), SIGMA, conditions()))


def test_dropping_affects_only_the_masked_samples() -> None:
    """Drops the identity of one sample and the images of another, without modifying the original."""
    given = conditions()
    text, clean = given.prompt_embeds.clone(), given.conditioning_latents.clone()
    dropped = given.dropped(
        identity=torch.tensor([True, False]),
        images=torch.tensor([False, True]),
        empty_prompt_embeds=empty_prompt_embeds(),
    )
    assert torch.equal(dropped.prompt_embeds, torch.stack([empty_prompt_embeds()[0], text[1]]))
    assert torch.equal(dropped.conditioning_latents[0], clean[0])
    assert not dropped.conditioning_latents[1].any()
    assert torch.equal(given.prompt_embeds, text)
    assert torch.equal(given.conditioning_latents, clean)
    assert torch.equal(dropped.rays, given.rays)
    assert torch.equal(dropped.is_conditioning, given.is_conditioning)


def test_negative_guidance_is_refused() -> None:
    """The error gives the allowed range and how to disable guidance."""
    with pytest.raises(ValueError, match=r"guidance_scale: expected 0 or more, got -1\.0; 1 disables guidance"):
        guided_denoiser(tiny_unet(), conditions(), empty_prompt_embeds(), -1.0)
