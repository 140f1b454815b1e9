"""Compares the names and shapes of a file's tensors with a network's, and explains the usual differences."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.weights import Shape, TensorHeader

_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the autoencoder's attention in files of 2022 and in current ones; diffusers reads both."""

FLOATS = ("float16", "bfloat16", "float32", "float64")
"""Dtypes of weights; those of 8 bits are of use only with scales, which no network here has."""

_KNOWN = (
    (
        r"lora_|\.lora\.|\.(alpha|lora[AB])$",
        "those of a LoRA, which only changes a network: fuse it into its base model (fuse_lora), then save_pretrained",
    ),
    (
        r"^(model_ema|ema_model|ema|shadow_params)\.",
        "averaged (EMA) weights alone, as a training script keeps them: copy them into the network (EMAModel.copy_to), "
        "then save_pretrained",
    ),
    (
        r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\.|^(input_blocks|middle_block|output_blocks)\."
        r"|^(encoder|decoder)\.(down|up|mid)\.",
        "those of the original single-file layout (LDM): convert the file with diffusers (from_single_file), then "
        "save_pretrained",
    ),
)
"""Patterns of names, what a file with such names is, and what to do; LoRA first, since its names contain others'."""


def current_name(name: str) -> str:
    """The current diffusers name of a tensor."""
    pattern = r"(\.attentions\.\d+)\.(" + "|".join(_ATTENTION) + r")\."
    return re.sub(pattern, lambda match: f"{match[1]}.{_ATTENTION[match[2]]}.", name)


def clip_name(name: str) -> str:
    """The name of a tensor of CLIP's text encoder, published with and without the prefix."""
    return name.removeprefix("text_model.")


def compare(
    place: Path,
    wanted: Mapping[str, TensorHeader],
    found: Mapping[str, TensorHeader],
    renamed: Callable[[str], str] = current_name,
    stated_by: str = "its config.json",
) -> str:
    """The number of tensors and parameters. Raises SpinMeRoundError, which names what is missing, differs or is twice.

    `stated_by` says where the wanted shapes come from. `renamed` maps published names to the network's; buffers that
    the libraries ignore are left out.
    """
    needed = {renamed(name): header.shape for name, header in wanted.items() if not ignored(name)}
    actual: dict[str, Shape] = {}
    for name, header in found.items():
        if ignored(name):
            continue
        if renamed(name) in actual:
            raise SpinMeRoundError(f"{place}: tensor {renamed(name)}: expected once, found under its former name, too")
        actual[renamed(name)] = header.shape
    differing = sorted(name for name in {*needed, *actual} if needed.get(name) != actual.get(name))
    if differing:
        raise SpinMeRoundError(f"{place}: {_difference(needed, actual, found, differing, stated_by)}")
    _check_dtypes(place, {renamed(name) for name, header in wanted.items() if header.dtype in FLOATS}, found, renamed)
    return f"{len(found)} tensors, {sum(_size(header.shape) for header in found.values()) / 1e6:.1f}M parameters"


def _check_dtypes(
    place: Path, floats: set[str], found: Mapping[str, TensorHeader], renamed: Callable[[str], str]
) -> None:
    for name, header in found.items():
        if renamed(name) in floats and header.dtype not in FLOATS:
            raise SpinMeRoundError(
                f"{place}: tensor {name}: expected {', '.join(FLOATS[:-1])} or {FLOATS[-1]}, found {header.dtype}; get "
                "the weights before quantisation or conversion"
            )


def ignored(name: str) -> bool:
    """Whether a tensor is a constant of older files, which the libraries compute."""
    return name.endswith("embeddings.position_ids")


def _difference(
    wanted: Mapping[str, Shape],
    actual: Mapping[str, Shape],
    found: Mapping[str, TensorHeader],
    differing: list[str],
    stated_by: str,
) -> str:
    missing = [name for name in differing if name not in actual]
    unexpected = [name for name in differing if name not in wanted]
    if unexpected and (known := explanation(wanted, actual)):
        return (
            f"{len(missing)} of {len(wanted)} tensors are missing, for example {(missing or differing)[0]}; "
            f"found {sorted(found)[0]}: the names are {known}"
        )
    name = next((each for each in differing if each in actual and each in wanted), differing[0])
    first = f"tensor {name}: expected {_shape(wanted.get(name))} by {stated_by}, found {_shape(actual.get(name))}"
    if len(differing) == 1:
        return first
    reshaped = len(differing) - len(missing) - len(unexpected)
    return (
        f"{first} ({len(missing)} missing, {len(unexpected)} unexpected, {reshaped} of another shape, "
        f"of {len(wanted)} tensors); get the weights again, or those that belong to {stated_by}"
    )


def explanation(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> str | None:
    """What a file with these names is, and what to do; None if it is not recognised."""
    example = min(wanted)
    for name in found:
        prefix = name.removesuffix(example)
        if prefix != name and prefix and all(f"{prefix}{each}" in found for each in wanted):
            return (
                f"the network's own behind the prefix '{prefix}', as a wrapped network saves them (DataParallel, "
                "torch.compile, a training module): save the network inside, then save_pretrained"
            )
    return next((text for pattern, text in _KNOWN if any(re.search(pattern, name) for name in found)), None)


def _shape(shape: Shape | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "scalar"


def _size(shape: Shape) -> int:
    product = 1
    for side in shape:
        product *= side
    return product
