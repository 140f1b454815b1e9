"""Weights in the original single-file layout (LDM), by which Stable Diffusion and its autoencoders are published.

diffusers' own tables convert the names. The configuration is the folder's: nothing is downloaded, as it is by
`from_single_file` without one. What the tables leave out or do not know is an error.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinmeround.storage.errors import SpinMeRoundError, one_line
from spinmeround.storage.weights import NetworkFiles, tensor_headers

if TYPE_CHECKING:
    import torch

_LAYOUTS = {
    "UNet2DConditionModel": (
        "model.diffusion_model.",
        r"(input_blocks|middle_block|output_blocks|time_embed|label_emb|out)\.",
        r"(input_blocks|middle_block|output_blocks)\.",
    ),
    "AutoencoderKL": (
        "first_stage_model.",
        r"(encoder|decoder|quant_conv|post_quant_conv)\.",
        r"(encoder|decoder)\.(down|up|mid)\.",
    ),
}
"""By class: the prefix in a file with all of Stable Diffusion, the names of the network, and those of LDM alone."""


def is_single_file(kind: str, names: Mapping[str, Any]) -> bool:
    """Whether tensors with these names hold a network of this class in the single-file layout."""
    if kind not in _LAYOUTS:
        return False
    prefix, _, only_here = _LAYOUTS[kind]
    return any(re.match(only_here, name.removeprefix(prefix)) for name in names)


def single_file(folder: Path, kind: str) -> NetworkFiles | None:
    """The only file of weights in a folder, whatever its name, if it is in the single-file layout."""
    if kind not in _LAYOUTS or not folder.is_dir():
        return None
    found = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".ckpt", ".bin", ".pth", ".pt")]
    files = [path for path in found if path.is_file() and not path.name.startswith(".")]
    if len(files) != 1 or not is_single_file(kind, tensor_headers(files[0])):
        return None
    return NetworkFiles(files=tuple(files), variant=None, safetensors=files[0].suffix == ".safetensors")


def converted(
    place: Path, kind: str, config: Mapping[str, Any], tensors: Mapping[str, "torch.Tensor"]
) -> "dict[str, torch.Tensor]":
    """The tensors of the network under the names of diffusers; those of the file's other networks are left out.

    Raises SpinMeRoundError for tensors of the network that diffusers does not know, or a file that it can't convert.
    """
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    prefix, names, _ = _LAYOUTS[kind]
    inside = any(name.startswith(prefix) for name in tensors)
    own = {
        f"{prefix}{plain}": tensor
        for name, tensor in tensors.items()
        if (name.startswith(prefix) or not inside) and re.match(names, plain := name.removeprefix(prefix))
    }
    tables: Any = SINGLE_FILE_LOADABLE_CLASSES[kind]
    try:
        found = tables["checkpoint_mapping_fn"](config=config, checkpoint=dict(own))
    except Exception as error:  # what the tables meet in other networks
        raise SpinMeRoundError(
            f"{place}: expected a {kind} in the single-file layout (LDM), found one that diffusers can't convert: "
            f"{one_line(error)}"
        ) from error
    if len(found) != len(own):
        raise SpinMeRoundError(
            f"{place}: expected a {kind} in the single-file layout (LDM) that fits its config.json, found "
            f"{len(own)} tensors, of which diffusers converts {len(found)}; get the config.json that belongs to it"
        )
    return dict(found)
