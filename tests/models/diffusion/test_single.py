"""Single images by the plain UNet: the same function as one view of the network that is grown from it."""

import torch
from einops import rearrange

from spinmeround.models.diffusion.denoiser import Conditions, denoise
from spinmeround.models.diffusion.single import denoise_images, image_loss
from spinmeround.models.diffusion.unet import MultiviewUNet
from tests.models.diffusion.networks import base_unet, conditions


def _one_view(images: torch.Tensor) -> torch.Tensor:
    """Images as groups of one view, whose normals are zero."""
    return rearrange(torch.cat([images, torch.zeros_like(images)], dim=1), "b c h w -> b 1 c h w")


def test_an_image_is_denoised_as_a_view_of_the_grown_network() -> None:
    """With zero pose weights and zero normals, the image half of a group of one view, at any noise level."""
    base = base_unet()
    grown = MultiviewUNet.from_unet(base, multiview_factors=(1, 2), zero_pose=True).eval()
    given: Conditions = conditions(batch=3, views=1, given=0)
    images = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.05, 1.0, 40.0])
    with torch.no_grad():
        expected = denoise(grown, _one_view(images), sigma, given)[:, 0, :4]
        torch.testing.assert_close(denoise_images(base, images, sigma, given.prompt_embeds), expected)


def test_the_loss_is_that_of_the_networks_own_output() -> None:
    """Known values: the weighted error of D is the squared error of F, whose target is (n - s x)/sqrt(1 + s^2)."""
    base = base_unet()
    draw = torch.Generator().manual_seed(2)
    images, noise = torch.randn(2, 3, 4, 4, 4, generator=draw)
    sigma, prompts = torch.tensor([0.1, 1.0, 30.0]), torch.randn(3, 8, 512, generator=draw)
    level = sigma[:, None, None, None]
    with torch.no_grad():
        found = image_loss(base, images, prompts, sigma, noise)
        zero = denoise_images(base, images + level * noise, sigma, prompts)
    output = (zero - (images + level * noise) / (level**2 + 1)) * -(level**2 + 1).sqrt() / level
    target = (noise - level * images) / (level**2 + 1).sqrt()
    torch.testing.assert_close(found, (output - target).square().mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
