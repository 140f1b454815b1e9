import torch
from diffusers import AutoencoderDC

from spinmeround.models.diffusion.latents import decode_images, downsampling, encode_images, pair_latents
from tests.models.diffusion.networks import tiny_autoencoder


@torch.no_grad()
def test_latents_are_scaled_by_the_autoencoders_factor() -> None:
    """Encoding multiplies the mean by scaling_factor, decoding divides by it."""
    vae = tiny_autoencoder()
    vae.register_to_config(scaling_factor=0.5)
    pictures = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean = vae.encode(pictures).latent_dist.mean
    latents = encode_images(vae, pictures)
    torch.testing.assert_close(latents, 0.5 * mean)
    torch.testing.assert_close(decode_images(vae, latents), vae.decode(mean).sample)
    assert pictures.shape[-1] == latents.shape[-1] * downsampling(vae)


@torch.no_grad()
def test_a_deterministic_autoencoder_serves_as_well() -> None:
    """DC-AE, whose latents are no distribution: what it gives, scaled; four times smaller after three levels."""
    torch.manual_seed(0)
    levels = {"block_out_channels": (8, 8, 8), "layers_per_block": (1, 1, 1), "qkv_multiscales": ((), (), ())}
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in levels.items()}
    vae = AutoencoderDC(latent_channels=4, scaling_factor=0.5, **sizes).eval()
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1
    latents = encode_images(vae, pictures)
    torch.testing.assert_close(latents, 0.5 * vae.encode(pictures).latent)
    torch.testing.assert_close(decode_images(vae, latents), vae.decode(2 * latents).sample)
    assert (latents.shape, downsampling(vae)) == ((2, 4, 2, 2), 4)


def test_a_view_is_image_then_normals() -> None:
    """The first half of a view's channels is the image's latent."""
    paired = pair_latents(torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3))
    assert paired.mean(dim=(0, 2, 3)).tolist() == [0.0] * 4 + [1.0] * 4
