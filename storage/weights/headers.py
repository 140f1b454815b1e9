"""Names, shapes and dtypes of the tensors in a file of weights, without their values; signatures of ONNX networks."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line
from spinmeround.storage.numbers import pickled_tensors, refuse_lfs_pointer

if TYPE_CHECKING:
    from onnx import GraphProto

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
Dimension = int | str
"""A dimension of a network's input or output: a fixed size, or the name of a variable one."""


class TensorHeader(NamedTuple):
    """What a file says about a tensor; `dtype` by the name that torch has for it."""

    shape: Shape
    dtype: str = "float32"


@dataclass(frozen=True)
class OnnxSignature:
    """Shapes of a network's inputs and outputs, in order."""

    inputs: tuple[tuple[Dimension, ...], ...]
    outputs: tuple[tuple[Dimension, ...], ...]


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


def onnx_graph(path: Path) -> "GraphProto":
    """The graph of an ONNX network, without external data. Raises ConfigError if the file is not an ONNX network."""
    import onnx
    from google.protobuf.message import DecodeError

    refuse_lfs_pointer(path)
    try:
        return onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise ConfigError(f"{path}: expected an ONNX network, found {one_line(error)}") from error


def onnx_signature(path: Path) -> OnnxSignature:
    """The signature of an ONNX network. Raises SpinMeRoundError if the file is not an ONNX network."""
    graph = onnx_graph(path)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = _shapes(value for value in graph.input if value.name not in constants)
    if not inputs or not graph.output:
        raise SpinMeRoundError(f"{path}: expected an ONNX network, found a file without inputs or outputs")
    return OnnxSignature(inputs, _shapes(graph.output))


def _shapes(values: Iterable[object]) -> tuple[tuple[Dimension, ...], ...]:
    return tuple(
        tuple(size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim)  # type: ignore[attr-defined]
        for value in values
    )
