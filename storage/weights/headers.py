"""Names and shapes of the tensors in a file of weights, without reading their values; signatures of ONNX networks.

Pickles are read only with torch's weights-only loader, which executes none of their code.
"""

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line

if TYPE_CHECKING:
    from onnx import GraphProto

Shape = tuple[int, ...]
Dimension = int | str
"""A dimension of a network's input or output: a fixed size, or the name of a variable one."""


@dataclass(frozen=True)
class OnnxSignature:
    """Shapes of a network's inputs and outputs, in order."""

    inputs: tuple[tuple[Dimension, ...], ...]
    outputs: tuple[tuple[Dimension, ...], ...]


def tensor_shapes(path: Path) -> dict[str, Shape]:
    """Names and shapes of a .safetensors file or of torch's .bin or .pth.

    Raises SpinMeRoundError if the file is missing, truncated or of another kind.
    """
    try:
        return _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    except SpinMeRoundError:
        raise
    except Exception as error:  # safetensors and torch raise unrelated errors
        raise SpinMeRoundError(f"{path}: expected a complete file of tensors, found {one_line(error, 200)}") from error


def _safetensors(path: Path) -> dict[str, Shape]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _torch(path: Path) -> dict[str, Shape]:
    import torch

    try:
        # weights_only executes no code of the pickle; "meta" reads no values
        tensors = torch.load(path, map_location="meta", weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        raise SpinMeRoundError(
            f"{path}: expected a pickle with tensors only, found code or no pickle; "
            "download it from its publisher again"
        ) from error
    tensors = tensors.get("state_dict", tensors)  # of a training script
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


def onnx_graph(path: Path) -> "GraphProto":
    """The graph of an ONNX network, without external data. Raises ConfigError if the file is not an ONNX network."""
    import onnx
    from google.protobuf.message import DecodeError

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
