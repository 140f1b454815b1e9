"""The loss of a step's groups.

Every random number is a function of (seed, step, index of the group in the step's batch), and the loss of a step
depends on earlier steps only through the weights. So it does not matter how a batch is divided into parts.
"""

from contextlib import nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spinmeround.models.diffusion.edm import sample_sigmas
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss, sample_condition_dropout
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.training.batches import DROPS, NOISE, GroupBatch
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.prompts import PromptStates
from spinmeround.tasks.training.state import Networks


class StepLosses(NamedTuple):
    """The losses of the image and of the normals of each group, of `adapt` of the image alone, and its noise level."""

    per_half: Float[Tensor, "sample half"]
    sigma: Float[Tensor, " sample"]


class GroupLoss:
    """Losses of groups by the networks of a training."""

    def __init__(self, networks: Networks, params: TrainParams) -> None:
        self.networks, self.params = networks, params
        self._prompts = PromptStates(networks.prompt_encoder)

    def __call__(self, groups: GroupBatch, step: int) -> StepLosses:
        """The losses of the groups of a step."""
        return self.at(groups, *self._noise(groups, step), self._dropouts(groups, step))

    def at(
        self,
        groups: GroupBatch,
        sigma: Float[Tensor, " sample"],
        noise: Float[Tensor, "sample view channel h w"],
        dropped: tuple[Bool[Tensor, " sample"], Bool[Tensor, " sample"]] | None = None,
    ) -> StepLosses:
        """The losses at given noise; `dropped` are the groups that lose their identity and their images, or none."""
        params, device = self.params, self.networks.unet.device
        samples, views = groups.latents.shape[:2]
        is_conditioning = (torch.arange(views) < groups.conditioning).expand(samples, views)
        drop_identity, drop_images = dropped or (torch.zeros(samples, dtype=torch.bool),) * 2
        rays = encode_rays(
            groups.cam2world,
            groups.intrinsics,
            reference=reference_view(is_conditioning),
            resolution=groups.latents.shape[-1],
            encoding=params.unet.ray_encoding,
            device=device,
        )
        with torch.autocast(device.type, torch.bfloat16) if params.precision == "bfloat16" else nullcontext():
            batch = TrainingBatch(
                latents=groups.latents.to(device),
                is_conditioning=is_conditioning.to(device),
                rays=rays,
                prompt_embeds=self._prompts(groups.identity),
                empty_prompt_embeds=self._prompts.empty(samples),
                drop_identity=drop_identity.to(device),
                drop_images=drop_images.to(device),
            )
            loss = multiview_loss(self.networks.multiview, batch, sigma.to(device), noise.to(device))
        return StepLosses(loss.per_half, sigma)

    def _dropouts(self, groups: GroupBatch, step: int) -> tuple[Tensor, Tensor]:
        """Which groups lose their identity, and which their conditioning images."""
        share, alone = self.params.condition_dropout, self.params.identity_dropout
        drawn = [
            sample_condition_dropout(1, share, self._generator(step, index, DROPS), identity_alone=alone)
            for index in groups.indices
        ]
        identities, images = zip(*drawn, strict=True)
        return torch.cat(identities), torch.cat(images)

    def _noise(self, groups: GroupBatch, step: int) -> tuple[Tensor, Tensor]:
        """Noise level and unit noise of each group, drawn on the CPU: the same numbers on every device."""
        views = groups.latents.shape[1]
        sigmas, noises = [], []
        for index in groups.indices:
            generator = self._generator(step, index, NOISE)
            sigmas.append(sample_sigmas(self.params.noise, 1, targets=views - groups.conditioning, generator=generator))
            noises.append(torch.randn(groups.latents.shape[1:], generator=generator))
        return torch.cat(sigmas), torch.stack(noises)

    def _generator(self, step: int, index: int, purpose: int) -> torch.Generator:
        rng = draw_rng(self.params.draws_seed, step, index, purpose)
        return torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
