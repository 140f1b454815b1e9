"""The UNet that a phase begins with: random, or made from either UNet.

`adapt` trains the text-to-image UNet of single pictures, the other phases the multiview UNet that is grown from it.
"""

from pathlib import Path
from typing import cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from spinmeround.models.diffusion.params import UNetParams
from spinmeround.models.diffusion.unet import MultiviewUNet, base_config, build_unet
from spinmeround.storage.errors import as_config_error
from spinmeround.tasks.training.beginning.checks import check_unet
from spinmeround.tasks.training.params import UNET, TrainParams
from spinmeround.tasks.training.params.phases import PhaseName
from spinmeround.tasks.weights.networks import NetworkClass, check_network, load_network

UNet = MultiviewUNet | UNet2DConditionModel
_CLASSES: tuple[NetworkClass, ...] = ("MultiviewUNet", "UNet2DConditionModel")


def random_unet(phase: PhaseName, params: UNetParams, seed: int) -> UNet:
    """The UNet of a phase with random weights, a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if phase != "adapt":
            return build_unet(params)
        single: UNet2DConditionModel = UNet2DConditionModel.from_config(base_config(params))
        return single


def check_unet_folder(folder: Path, phase: PhaseName, params: TrainParams) -> None:
    """Check the files of a UNet, every number of them, and its sizes. Raises ConfigError."""
    checked = check_network(folder, *_CLASSES, field=UNET)
    check_unet(folder, checked.config, phase, params)


def load_unet(folder: Path, phase: PhaseName, params: TrainParams) -> UNet:
    """The UNet in a folder as the phase has it. Raises ConfigError for a defective one or other sizes."""
    unet: UNet = load_network(folder, *_CLASSES, field=UNET)
    check_unet(folder, unet.config, phase, params)
    return as_phase(unet, phase, params, f"{UNET}: {folder}: ")


def as_phase(unet: UNet, phase: PhaseName, params: TrainParams, where: str) -> UNet:
    """Either UNet as the phase has it; `where` begins the message of the ConfigError for one that can't be grown.

    A multiview UNet keeps the statistics of its latents.
    """
    if isinstance(unet, MultiviewUNet):
        return unet.to_unet() if phase == "adapt" else _configured(unet, params)
    single = cast(UNet2DConditionModel, unet)
    single.register_to_config(sample_size=params.unet.sample_size)  # type: ignore[no-untyped-call]
    return single if phase == "adapt" else _grown(single, params, where)


def _configured(unet: MultiviewUNet, params: TrainParams) -> MultiviewUNet:
    """A multiview UNet with what its weights do not depend on as in `params`, whose normals it loses if these have
    none."""
    unet = unet if params.unet.normals else unet.without_normals()
    unet.register_to_config(views=params.unet.views)  # type: ignore[no-untyped-call]
    if params.unet.latent_statistics and unet.statistics is None:
        unet.add_latent_statistics()
    return unet


def _grown(unet: UNet2DConditionModel, params: TrainParams, where: str) -> MultiviewUNet:
    with as_config_error(where), torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        grown: MultiviewUNet = MultiviewUNet.from_unet(
            unet,
            views=params.unet.views,
            ray_encoding=params.unet.ray_encoding,
            multiview_factors=params.unet.multiview_factors,
            zero_pose=params.initial.zero_pose,
            latent_statistics=params.unet.latent_statistics,
        )
        return grown if params.unet.normals else grown.without_normals()
