"""Single images under EDM's preconditioning, by the text-to-image UNet before it is extended to several views.

The UNet is called as inside `MultiviewUNet`: on c_in x, with the same timestep for a noise level. So what it learns
holds for each view of the network that is grown from it.
"""

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.edm import loss_weight, noise_label, precondition
from spinmeround.models.diffusion.unet import TIME_SCALE, TIME_SHIFT


def denoise_images(
    unet: UNet2DConditionModel,
    noisy: Float[Tensor, "batch channel height width"],
    sigma: Float[Tensor, " batch"],
    prompt_embeds: Float[Tensor, "batch text_token text_channel"],
) -> Float[Tensor, "batch channel height width"]:
    """D(x; s) of single images, given their prompt embeddings."""
    scale = precondition(rearrange(sigma, "b -> b 1 1 1"))
    output = unet(
        (scale.c_in * noisy).to(unet.dtype),
        TIME_SCALE * noise_label(sigma) + TIME_SHIFT,
        encoder_hidden_states=prompt_embeds.to(unet.dtype),
        return_dict=False,
    )[0]
    denoised: Tensor = scale.c_skip * noisy + scale.c_out * output.to(noisy.dtype)
    return denoised


def image_loss(
    unet: UNet2DConditionModel,
    latents: Float[Tensor, "batch channel height width"],
    prompt_embeds: Float[Tensor, "batch text_token text_channel"],
    sigma: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, " batch"]:
    """(1 + s^2)/s^2 |D(x; s) - x_0|^2 of each image: the weighted error of `models.diffusion.loss`, of the image half
    alone."""
    noisy = latents + rearrange(sigma, "b -> b 1 1 1") * noise
    error = denoise_images(unet, noisy, sigma, prompt_embeds) - latents
    return loss_weight(sigma) * reduce(error.float().square(), "b c h w -> b", "mean")
