"""Networks of diffusers under the names of the original single-file layout (LDM)."""

import re
from collections.abc import Mapping

from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_as_ldm(tensors: Mapping[str, Tensor], layers: int, with_attention: set[int]) -> dict[str, Tensor]:
    """A UNet's tensors; `with_attention` are its up blocks with attention, `layers` its layers per block."""
    return {f"model.diffusion_model.{_unet_name(name, layers, with_attention)}": each for name, each in tensors.items()}


def vae_as_ldm(tensors: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """An autoencoder's tensors; its attention has convolutions in place of linear layers."""
    found = {}
    for name, tensor in tensors.items():
        linear = ".attentions.0." in name and name.endswith("weight") and "group_norm" not in name
        found[f"first_stage_model.{_vae_name(name, levels)}"] = tensor[..., None, None] if linear else tensor
    return found


def _unet_name(name: str, layers: int, with_attention: set[int]) -> str:
    module, _, kind = name.rpartition(".")
    if module in _UNET:
        return f"{_UNET[module]}.{kind}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        place = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{place}.{_inner(found[1], found[3])}"
    found = re.fullmatch(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    assert found is not None, name
    side, block, part, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if part == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{rest.removeprefix('conv.')}"
    first = 1 + block * (layers + 1) if side == "down" else block * (layers + 1)
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{2 if block in with_attention else 1}.{rest}"
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{first + layer}.{0 if part == 'resnets' else 1}.{_inner(part, rest)}"


def _inner(part: str, rest: str) -> str:
    module, _, kind = rest.rpartition(".")
    return f"{_RESNET[module]}.{kind}" if part == "resnets" else rest


def _vae_name(name: str, levels: int) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda found: f"up.{levels - 1 - int(found[1])}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{levels - 1 - int(found[1])}.upsample", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if ".attentions.0." in name:
        before, _, after = name.partition("mid_block.attentions.0.")
        module, _, kind = after.rpartition(".")
        return f"{before}mid.attn_1.{_ATTENTION[module]}.{kind}"
    return name
