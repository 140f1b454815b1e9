"""The loss of `adapt`: that of single pictures by the UNet before it is extended to several views."""

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.diffusion.single import image_loss
from spinmeround.tasks.training.data.batches import GroupBatch
from spinmeround.tasks.training.step import GroupLoss, StepNoise


class FaceLoss(GroupLoss):
    """Losses of groups of one view."""

    def forward(self, groups: GroupBatch, noise: StepNoise) -> Float[Tensor, "sample 1"]:
        """The loss of each group's image; of the dropouts, that of the identity applies."""
        unet, device = self.networks.unet, self.networks.unet.device
        assert isinstance(unet, UNet2DConditionModel)
        prompts = torch.where(
            rearrange(noise.drop_identity.to(device), "b -> b 1 1"),
            self._prompts.empty(len(groups.heads)),
            self._prompts(groups.identity),
        )
        latents, unit = groups.latents[:, 0].to(device), noise.noise[:, 0].to(device)
        return image_loss(unet, latents, prompts, noise.sigma.to(device), unit)[:, None]
