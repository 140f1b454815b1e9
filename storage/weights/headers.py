"""Names, shapes and dtypes of the tensors in a file of weights, without their values."""

from pathlib import Path
from typing import NamedTuple

from spinmeround.storage.errors import SpinMeRoundError, one_line
from spinmeround.storage.numbers import pickled_tensors, refuse_lfs_pointer

Shape = tuple[int, ...]
_DTYPES = {
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "I8": "int8",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
"""Names of torch for those of safetensors; another one keeps its own."""


class TensorHeader(NamedTuple):
    """What a file says about a tensor; `dtype` by the name that torch has for it."""

    shape: Shape
    dtype: str = "float32"


def tensor_headers(path: Path) -> dict[str, TensorHeader]:
    """The tensors of a .safetensors file or of torch's .bin or .pth, by name.

    Raises SpinMeRoundError if the file is missing, truncated or of another kind.
    """
    if path.suffix != ".safetensors":
        found = pickled_tensors(path, "meta")
        return {
            name: TensorHeader(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in found.items()
        }
    from safetensors import safe_open

    refuse_lfs_pointer(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {
                name: TensorHeader(tuple(each.get_shape()), _DTYPES.get(each.get_dtype(), each.get_dtype()))
                for name, each in slices.items()
            }
    except Exception as error:  # of safetensors, whatever is wrong
        raise SpinMeRoundError(f"{path}: expected a complete file of tensors, found {one_line(error, 200)}") from error


def tensor_shapes(path: Path) -> dict[str, Shape]:
    """Names and shapes of the tensors of a file, as `tensor_headers`."""
    return {name: header.shape for name, header in tensor_headers(path).items()}
