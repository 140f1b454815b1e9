"""The files of a network's weights in a folder as diffusers and transformers save it.

    diffusion_pytorch_model.safetensors, or model.safetensors                     in one file
    ….safetensors.index.json and ….00001-of-00002.safetensors                     in shards
    diffusion_pytorch_model.bin, pytorch_model.bin and their indices              pickles of tensors
    ….fp16.safetensors, ….safetensors.index.fp16.json, ….fp16.bin                 a variant: fp16, bf16 or fp32

Without a variant goes before a variant, and .safetensors before .bin. A folder with both one file and an index is
refused: the libraries differ on which they load.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import SpinMeRoundError, shortened
from spinmeround.storage.weights.headers import TensorHeader, tensor_headers

VARIANTS = (None, "fp16", "bf16", "fp32")
SUFFIXES = ("safetensors", "bin")
_DIFFUSERS = dict.fromkeys(SUFFIXES, "diffusion_pytorch_model")
_TRANSFORMERS = {"safetensors": "model", "bin": "pytorch_model"}
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class NetworkFiles:
    """The files of one network: one file, or the shards in their order; `variant` is None for the plain names."""

    files: tuple[Path, ...]
    variant: str | None
    safetensors: bool

    def headers(self) -> dict[str, TensorHeader]:
        """All tensors by name. Raises SpinMeRoundError for a file of another kind, or a tensor in two."""
        found: dict[str, TensorHeader] = {}
        for file in self.files:
            headers = tensor_headers(file)
            if twice := sorted(found.keys() & headers.keys()):
                raise SpinMeRoundError(f"{file}: tensor {twice[0]}: expected in one shard, found in another one, too")
            found |= headers
        return found


def network_files(folder: Path, *, transformers: bool = False) -> NetworkFiles:
    """The files to check and to load. Raises SpinMeRoundError, which names what is there instead."""
    stems = _TRANSFORMERS if transformers else _DIFFUSERS
    for variant in VARIANTS:
        dotted = f".{variant}" if variant else ""
        for suffix in SUFFIXES:
            single = folder / f"{stems[suffix]}{dotted}.{suffix}"
            index = folder / f"{stems[suffix]}.{suffix}.index{dotted}.json"
            if single.is_file() and index.is_file():
                raise SpinMeRoundError(
                    f"{folder}: expected one file or shards, found both {single.name} and {index.name}, which may hold "
                    "different weights; remove the outdated ones"
                )
            found = (single,) if single.is_file() else _shards(index) if index.is_file() else ()
            if found:
                return NetworkFiles(files=found, variant=variant, safetensors=suffix == "safetensors")
    raise SpinMeRoundError(f"{folder}: expected {stems['safetensors']}.safetensors, found {_instead(folder)}")


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names. Raises SpinMeRoundError if one is missing or outside of the folder."""
    stated = read_json_object(index, "an index with weight_map").get("weight_map")
    if not isinstance(stated, dict):
        raise SpinMeRoundError(f"{index}: expected an index with weight_map, found none that can be read")
    names = list(stated.values())
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise SpinMeRoundError(f"{index}: expected plain names of files in weight_map, found others")
    files = tuple(index.parent / name for name in sorted(set(names)))
    missing = [shortened(file.name, 80) for file in files if not os.path.isfile(file)]  # False for too long a name
    if missing:
        raise SpinMeRoundError(
            f"{index.parent}: lacks {', '.join(missing[:_SHOWN])}{', ...' if len(missing) > _SHOWN else ''}, "
            f"of the {len(files)} files that {index.name} names; download them again"
        )
    return files


def _instead(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    others = [path for path in sorted(folder.iterdir()) if path.suffix in (".safetensors", ".bin", ".ckpt", ".pth")]
    names = [path.name for path in others if path.is_file() and not path.name.startswith(".")]
    if not names:
        return "no file of weights"
    more = ", ..." if len(names) > _SHOWN else ""
    if any("lora" in name.lower() for name in names):
        advice = "a LoRA is no network: fuse it into its base model (fuse_lora, save_pretrained)"
    elif any("ema" in name.lower() for name in names):
        advice = "to use that variant, rename it"
    else:
        advice = "if that is this network in diffusers' layout, rename it"
    return f"only {', '.join(names[:_SHOWN])}{more}; {advice}"
