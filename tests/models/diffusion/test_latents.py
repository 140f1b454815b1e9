import torch
from diffusers import AutoencoderDC

from spinmeround.models.diffusion.latents import decode_images, downsampling, encode_images, pair_latents
from tests.models.diffusion.networks import tiny_autoencoder


@torch.no_grad()
def test_latents_are_scaled_by_the_autoencoders_factor() -> None:
    """Encoding multiplies the mean by scaling_factor; decoding divides by it."""
    vae = tiny_autoencoder()
    vae.register_to_config(scaling_factor=0.5)
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean = vae.encode(images).latent_dist.mean
    latents = encode_images(vae, images)
    torch.testing.assert_close(latents, 0.5 * mean)
    torch.testing.assert_close(decode_images(vae, latents), vae.decode(mean).sample)
    assert images.shape[-1] == latents.shape[-1] * downsampling(vae)


@torch.no_grad()
def test_deterministic_autoencoders_are_supported() -> None:
    """DC-AE returns latents without a distribution; they are scaled, and downsampled by 4 over three levels."""
    torch.manual_seed(0)
    levels = {"block_out_channels": (8, 8, 8), "layers_per_block": (1, 1, 1), "qkv_multiscales": ((), (), ())}
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in levels.items()}
    vae = AutoencoderDC(latent_channels=4, scaling_factor=0.5, **sizes).eval()
    images = torch.rand(2, 3, 8, 8) * 2 - 1
    latents = encode_images(vae, images)
    torch.testing.assert_close(latents, 0.5 * vae.encode(images).latent)
    torch.testing.assert_close(decode_images(vae, latents), vae.decode(2 * latents).sample)
    assert (latents.shape, downsampling(vae)) == ((2, 4, 2, 2), 4)


def test_image_latents_precede_normal_latents() -> None:
    """The first half of a view's channels is the image latent."""
    paired = pair_latents(torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3))
    assert paired.mean(dim=(0, 2, 3)).tolist() == [0.0] * 4 + [1.0] * 4
