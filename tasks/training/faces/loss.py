"""The loss of `adapt`: that of single pictures by the UNet before it is extended to several views."""

from contextlib import nullcontext

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from spinmeround.models.diffusion.single import image_loss
from spinmeround.tasks.training.batches import GroupBatch
from spinmeround.tasks.training.step import GroupLoss, StepLosses


class FaceLoss(GroupLoss):
    """Losses of groups of one view; `per_half` has the image's alone."""

    def at(
        self,
        groups: GroupBatch,
        sigma: Float[Tensor, " sample"],
        noise: Float[Tensor, "sample 1 channel h w"],
        dropped: tuple[Bool[Tensor, " sample"], Bool[Tensor, " sample"]] | None = None,
    ) -> StepLosses:
        """The losses at given noise; of `dropped`, the groups that lose their identity apply."""
        unet, device = self.networks.unet, self.networks.unet.device
        assert isinstance(unet, UNet2DConditionModel)
        lost = torch.zeros(len(sigma), dtype=torch.bool) if dropped is None else dropped[0]
        with torch.autocast(device.type, torch.bfloat16) if self.params.precision == "bfloat16" else nullcontext():
            prompts = torch.where(
                rearrange(lost.to(device), "b -> b 1 1"),
                self._prompts.empty(len(sigma)),
                self._prompts(groups.identity),
            )
            loss = image_loss(unet, groups.latents[:, 0].to(device), prompts, sigma.to(device), noise[:, 0].to(device))
        return StepLosses(loss[:, None], sigma)
