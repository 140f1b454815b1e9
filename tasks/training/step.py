"""The loss of a step's groups.

Every random number is a function of (seed, step, index of the group in the step's batch), and the loss of a step
depends on earlier steps only through the weights. So it does not matter how a batch is divided among processes and
parts.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spinmeround.models.diffusion.edm import sample_sigmas
from spinmeround.models.diffusion.loss import TrainingBatch, multiview_loss, sample_condition_dropout
from spinmeround.models.diffusion.rays import encode_rays, reference_view
from spinmeround.tasks.loading.view_draws import draw_rng
from spinmeround.tasks.training.data.batches import GroupBatch
from spinmeround.tasks.training.data.draws import DROPS, NOISE
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.model.prompts import PromptStates
from spinmeround.tasks.training.params import TrainParams


class StepLosses(NamedTuple):
    """The losses of the image and of the normals of each group, and its noise level; `adapt` and a model without
    normals have that of the image alone.

    Groups of heads without normals have the loss 0 there; `has_normals` is None if all have some.
    """

    per_half: Float[Tensor, "sample half"]
    sigma: Float[Tensor, " sample"]
    has_normals: Bool[Tensor, " sample"] | None = None

    @property
    def having_normals(self) -> Bool[Tensor, " sample"]:
        """The groups of heads with normals."""
        return torch.ones_like(self.sigma, dtype=torch.bool) if self.has_normals is None else self.has_normals


@dataclass(frozen=True, kw_only=True)
class StepNoise:
    """The random numbers of the groups of a step, drawn on the CPU: the same numbers on every device."""

    sigma: Float[Tensor, " sample"]
    noise: Float[Tensor, "sample view channel h w"]
    drop_identity: Bool[Tensor, " sample"]
    drop_images: Bool[Tensor, " sample"]

    @classmethod
    def drawn(cls, groups: GroupBatch, step: int, params: TrainParams) -> Self:
        """The numbers of these groups of a step."""
        shape, targets = groups.latents.shape[1:], groups.latents.shape[1] - groups.conditioning
        share, alone = params.condition_dropout, params.identity_dropout
        sigmas, noises, drops = [], [], []
        for index in groups.indices:
            generator = _generator(params.draws_seed, step, index, NOISE)
            sigmas.append(sample_sigmas(params.noise, 1, targets=targets, generator=generator))
            noises.append(torch.randn(shape, generator=generator))
            chance = _generator(params.draws_seed, step, index, DROPS)
            drops.append(sample_condition_dropout(1, share, chance, identity_alone=alone))
        identities, images = zip(*drops, strict=True)
        return cls(
            sigma=torch.cat(sigmas),
            noise=torch.stack(noises),
            drop_identity=torch.cat(identities),
            drop_images=torch.cat(images),
        )

    @classmethod
    def fixed(cls, groups: GroupBatch, sigma: float, seed: int) -> Self:
        """One noise level and nothing dropped, for validation; the noise of group i is the same in any batch."""
        samples = len(groups.heads)
        generators = [torch.Generator().manual_seed(seed + index) for index in groups.indices]
        nothing = torch.zeros(samples, dtype=torch.bool)
        return cls(
            sigma=torch.full((samples,), sigma),
            noise=torch.stack([torch.randn(groups.latents.shape[1:], generator=each) for each in generators]),
            drop_identity=nothing,
            drop_images=nothing,
        )


class GroupLoss(nn.Module):
    """Losses of groups by the networks of a training. A module, so that all processes call it through one wrapper."""

    def __init__(self, networks: Networks, params: TrainParams) -> None:
        super().__init__()
        self.networks = networks
        self._conditioned_on = params.conditioned_on
        self._encoding = params.unet.ray_encoding
        self._prompts = PromptStates(networks.prompt_encoder)

    def forward(self, groups: GroupBatch, noise: StepNoise) -> Float[Tensor, "sample half"]:
        """The losses of the image and of the normals of each group; without normals in the model, of the image."""
        unet, samples = self.networks.multiview, len(groups.heads)
        device, used = unet.device, slice(unet.view_channels)  # normals come last, so images keep their noise
        is_conditioning = (torch.arange(groups.latents.shape[1]) < groups.conditioning).expand(samples, -1)
        batch = TrainingBatch(
            latents=groups.latents[:, :, used].to(device),
            is_conditioning=is_conditioning.to(device),
            rays=self._rays(groups, is_conditioning, device),
            prompt_embeds=self._prompts(groups.identity),
            empty_prompt_embeds=self._prompts.empty(samples),
            drop_identity=(noise.drop_identity | (self._conditioned_on == "image")).to(device),
            drop_images=(noise.drop_images | (self._conditioned_on == "identity")).to(device),
            has_normals=None if groups.has_normals is None else groups.has_normals.to(device),
        )
        return multiview_loss(unet, batch, noise.sigma.to(device), noise.noise[:, :, used].to(device)).per_half

    def _rays(self, groups: GroupBatch, is_conditioning: Bool[Tensor, "sample view"], device: torch.device) -> Tensor:
        available = torch.amp.is_autocast_available(device.type)
        with torch.autocast(device.type, enabled=False) if available else nullcontext():  # frequencies need float32
            return encode_rays(
                groups.cam2world,
                groups.intrinsics,
                reference=reference_view(is_conditioning),
                resolution=groups.latents.shape[-1],
                encoding=self._encoding,
                device=device,
            )


def _generator(seed: int, step: int, index: int, purpose: int) -> torch.Generator:
    rng = draw_rng(seed, step, index, purpose)
    return torch.Generator().manual_seed(int(rng.integers(2**63 - 1)))
