"""Inference of the normals of given views, by Algorithm 1 on groups of one view."""

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.params import PhotoNormalsParams
from spinmeround.models.diffusion.sampling.edm_sampler import draw_noise, seeded_generators
from spinmeround.models.diffusion.sampling.group_sampler import BatchCallback, GroupSampler, ViewGroup
from spinmeround.models.diffusion.sampling.guidance import guided_denoiser
from spinmeround.models.diffusion.sampling.photo_normals import ddpm_sigmas, infer_normal_latents, mean_of_best_half
from spinmeround.models.geometry.cameras import Cameras


def infer_view_normals(
    images: Float[Tensor, "given channel height width"],
    cameras: Cameras,
    sampler: GroupSampler,
    params: PhotoNormalsParams,
    seeds: list[int],
    callback: BatchCallback,
) -> Float[Tensor, "given channel height width"]:
    """Latents of the normals of given views, each conditioned on the identity alone, from one seed per view.

    Views run one at a time, because differentiation needs several times the memory of sampling.
    """
    sigmas = ddpm_sigmas(params.steps).tolist()
    nothing = images.new_zeros(0, 2 * images.shape[1], *images.shape[2:])

    def infer(view: int) -> Tensor:
        group = ViewGroup(cameras=cameras[[view]], conditioning_latents=nothing, seed=seeds[view])
        conditions = sampler.conditions([group])
        denoise = guided_denoiser(sampler.unet, conditions, sampler.empty_prompt_embeds, guidance_scale=1.0)
        generators, shape = seeded_generators([seeds[view]]), conditions.conditioning_latents.shape
        noises = [draw_noise(shape, generators, images.device) for _ in range(params.draws)]
        draws = [
            infer_normal_latents(
                denoise, images[[view]], noise, params, lambda step, latents: callback(step, sigmas[step], latents)
            )
            for noise in noises
        ]
        return mean_of_best_half(draws)

    return torch.cat([infer(view) for view in range(len(images))])
