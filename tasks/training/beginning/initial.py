"""The networks before training: random, those that `train.initial` names, or the result of the training before.

Of published networks, a training takes:

stable-diffusion-v1-5/vae     the autoencoder
arc2face/arc2face             the UNet that the multiview UNet is grown from
arc2face/encoder              the text encoder that reads identities
"""

from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTextModel

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from spinmeround.storage.errors import as_config_error
from spinmeround.tasks.heads.encode import EncodeParams, autoencoder_path
from spinmeround.tasks.training.beginning.averaged import averaged_networks
from spinmeround.tasks.training.beginning.checks import check_encoder, check_widths
from spinmeround.tasks.training.beginning.source import Source, initial_source
from spinmeround.tasks.training.beginning.unets import as_phase, check_unet_folder, load_unet, random_unet
from spinmeround.tasks.training.model.networks import Networks, build_text_encoder
from spinmeround.tasks.training.params import ENCODER, UNET, InitialParams, TextEncoderParams, TrainParams
from spinmeround.tasks.training.params.phases import PhaseName
from spinmeround.tasks.weights.networks import AUTOENCODERS, check_network, load_network


def build_initial_networks(params: TrainParams, begins: Path | None = None) -> Networks:
    """The networks at the first step of a training; their random weights are a function of its seed.

    `begins` is the result of the training before, which takes the place of `train.initial`. Raises ConfigError if a
    folder is missing, defective or of other sizes than the profile's.
    """
    networks = phase_networks(params.name, params, begins)
    return networks if params.text_encoder.trained else networks.freeze_text_encoder()


def phase_networks(phase: PhaseName, params: TrainParams, begins: Path | None = None) -> Networks:
    """As `build_initial_networks`, for a phase with or without steps; nothing is frozen."""
    check_widths(params)
    initial = params.initial if begins is None else InitialParams(unet=str(begins), zero_pose=params.initial.zero_pose)
    source = initial_source(initial)
    text_encoder = _text_encoder(initial, source, params)
    encoder = IdentityPromptEncoder(text_encoder, params.text_encoder.prompt)
    if source is None:
        return Networks(random_unet(phase, params.unet, params.seed), encoder)
    if source.checkpoint is not None:
        found = averaged_networks(source.checkpoint, encoder, params)
        return Networks(as_phase(found.unet, phase, params, f"{UNET}: {source.folder}: "), found.prompt_encoder)
    assert source.unet is not None
    return Networks(load_unet(source.unet, phase, params), encoder)


def check_external(params: TrainParams, encode: EncodeParams) -> None:
    """Check the networks from outside that a training loads, every number of them, before anything is computed.

    Raises ConfigError, which names the field, for a network that the training would refuse.
    """
    if encode.autoencoder != "embedded":
        check_network(autoencoder_path(encode), *AUTOENCODERS, field="encode.autoencoder")
    source = initial_source(params.initial)
    first: PhaseName = next(iter(params.trained), "multi-view")
    if source is not None and source.unet is not None:
        check_unet_folder(source.unet, first, params)
    folder = params.initial.folders.get("text_encoder") or (source and source.text_encoder)
    if folder:
        encoder = check_network(folder, "CLIPTextModel", field=ENCODER)
        check_encoder(folder, encoder.config, params.text_encoder)


def _text_encoder(initial: InitialParams, source: Source | None, params: TrainParams) -> CLIPTextModel:
    """That of `initial.text_encoder`, else the one that came with the UNet, else a random one."""
    folder = initial.folders.get("text_encoder") or (source and source.text_encoder)
    if folder:
        return _load_text_encoder(folder, params.text_encoder)
    return build_text_encoder(params.text_encoder, params.seed)


def _load_text_encoder(folder: Path, params: TextEncoderParams) -> CLIPTextModel:
    encoder: CLIPTextModel = load_network(folder, "CLIPTextModel", field=ENCODER)
    check_encoder(folder, encoder.config, params)
    return encoder


def grow_pipeline(
    stable_diffusion: Path,
    arc2face: Path,
    *,
    prompt: PromptTokens | None = None,
    dtype: torch.dtype = torch.float32,
    **growth: Any,
) -> SpinMeRoundPipeline:
    """A pipeline whose UNet equals Arc2Face's for each view, apart from the ray weights; `growth` goes to `from_unet`.

    Raises ConfigError if a folder is missing or its parts are incompatible.
    """
    parts = {
        "vae": load_network(stable_diffusion / "vae", "AutoencoderKL", dtype=dtype),
        "text_encoder": load_network(arc2face / "encoder", "CLIPTextModel", dtype=dtype),
    }
    with as_config_error(f"{arc2face}: "):
        unet = MultiviewUNet.from_unet(
            load_network(arc2face / "arc2face", "UNet2DConditionModel", dtype=dtype), **growth
        )
        return SpinMeRoundPipeline(unet=unet, prompt=(prompt or PromptTokens()).model_dump(mode="json"), **parts)
