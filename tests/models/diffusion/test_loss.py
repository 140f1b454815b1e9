from dataclasses import replace

import pytest
import torch
from torch import Tensor

from spinmeround.models.diffusion.edm import precondition
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss, sample_condition_dropout
from spinmeround.models.diffusion.unet import MultiviewUNet
from tests.models.diffusion.networks import conditions, tiny_unet

pytestmark = pytest.mark.fast
SIGMA = torch.tensor([0.3, 5.0])
KEEP = torch.zeros(2, dtype=torch.bool)


def batch(given: int = 1) -> TrainingBatch:
    known = conditions(given=given)
    return TrainingBatch(
        latents=known.conditioning_latents,
        is_conditioning=known.is_conditioning,
        rays=known.rays,
        prompt_embeds=known.prompt_embeds,
        empty_prompt_embeds=torch.full_like(known.prompt_embeds, 0.1),
        drop_identity=KEEP,
        drop_images=KEEP,
    )


def noise(seed: int = 1) -> Tensor:
    return torch.randn(2, 4, 8, 4, 4, generator=torch.Generator().manual_seed(seed))


def make_ideal(unet: MultiviewUNet, latents: Tensor, offset: float) -> None:
    """Makes the network return the ideal F = (x_0 - c_skip x)/c_out plus a constant offset."""

    def answer(module: MultiviewUNet, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scale = precondition(SIGMA[:, None, None, None, None])
        noisy = args[0] / scale.c_in
        return (latents - scale.c_skip * noisy) / scale.c_out + offset

    unet.register_forward_hook(answer)


@pytest.mark.parametrize("given", [0, 1, 3])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_loss_is_the_squared_error_of_the_network(given: int, offset: float) -> None:
    """The loss of an ideal network is 0, and that of a constant offset its square, at every noise level and for any
    number of targets."""
    unet = tiny_unet()
    make_ideal(unet, batch().latents, offset)
    loss = multiview_loss(unet, batch(given), SIGMA, noise())
    torch.testing.assert_close(loss.per_half, torch.full((2, 2), offset**2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(loss.mean, loss.per_half.mean())


def test_only_targets_contribute() -> None:
    """Noise at conditioning views has no effect; noise at a target does."""
    unet, at_conditioning, at_target = tiny_unet(), noise(), noise()
    at_conditioning[:, 0] += 10
    at_target[:, 3] += 1
    with torch.no_grad():
        loss, same, other = (
            multiview_loss(unet, batch(), SIGMA, n).per_half for n in (noise(), at_conditioning, at_target)
        )
    assert torch.equal(loss, same)
    assert bool((loss != other).all())


def test_samples_may_differ_in_their_conditioning_views() -> None:
    """In a batch that mixes 1 and 3 conditioning views, each sample has the loss that it has in a uniform batch."""
    unet = tiny_unet()
    with torch.no_grad():
        one, three = (multiview_loss(unet, batch(given), SIGMA, noise()).per_half for given in (1, 3))
        is_conditioning = torch.stack([batch(1).is_conditioning[0], batch(3).is_conditioning[1]])
        mixed = multiview_loss(unet, replace(batch(), is_conditioning=is_conditioning), SIGMA, noise()).per_half
    torch.testing.assert_close(mixed, torch.stack([one[0], three[1]]))


def test_dropped_conditions_have_no_effect() -> None:
    """With both dropped, the loss does not depend on identity and conditioning images; otherwise it does."""
    unet, other = tiny_unet(), batch()
    latents = other.latents.clone()
    latents[:, 0] += 1
    other = replace(other, latents=latents, prompt_embeds=other.prompt_embeds + 1)
    with torch.no_grad():
        for dropped in (True, False):
            flag = torch.full((2,), dropped)
            losses = [
                multiview_loss(unet, replace(b, drop_identity=flag, drop_images=flag), SIGMA, noise()).per_half
                for b in (batch(), other)
            ]
            assert torch.equal(*losses) == dropped


def test_a_step_of_gradient_descent_lowers_the_loss() -> None:
    """A small step against the gradient lowers the loss of the same batch."""
    unet = tiny_unet().train()
    before = multiview_loss(unet, batch(), SIGMA, noise()).mean
    before.backward()
    with torch.no_grad():
        for weight in unet.parameters():
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad
        assert multiview_loss(unet, batch(), SIGMA, noise()).mean < before


def test_condition_dropout_has_its_probability() -> None:
    """15% of the samples lose identity and images together; equal seeds give equal masks."""
    identity, images = sample_condition_dropout(20_000, 0.15, torch.Generator().manual_seed(0))
    assert identity.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert torch.equal(identity, images)
    assert torch.equal(identity, sample_condition_dropout(20_000, 0.15, torch.Generator().manual_seed(0))[0])


def test_identity_dropout_is_separate() -> None:
    """15% of the samples lose both and 10% more only the identity; no sample loses its images alone. `identity_alone`
    does not change which samples lose both."""
    seeded = torch.Generator().manual_seed(0)
    identity, images = sample_condition_dropout(20_000, 0.15, seeded, identity_alone=0.1)
    assert images.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (identity & ~images).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not bool((images & ~identity).any())
    assert torch.equal(images, sample_condition_dropout(20_000, 0.15, torch.Generator().manual_seed(0))[1])


def test_a_sample_without_targets_is_refused() -> None:
    """A group of conditioning views alone raises an error."""
    with pytest.raises(ValueError, match="expected at least one target view in every sample"):
        multiview_loss(tiny_unet(), batch(given=4), SIGMA, noise())


def test_samples_without_normals_count_with_their_images() -> None:
    """Their normals' loss is 0, whatever the network says; their image's, and other samples', are as before."""
    unet = tiny_unet()
    whole = multiview_loss(unet, batch(), SIGMA, noise()).per_half
    found = multiview_loss(unet, replace(batch(), has_normals=torch.tensor([True, False])), SIGMA, noise())
    expected = whole.clone()
    expected[1, 1] = 0
    torch.testing.assert_close(found.per_half, expected)
    torch.testing.assert_close(found.mean, expected.mean())
