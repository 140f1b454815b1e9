"""ONNX networks in one file: signatures, and all constants that the file holds.

A network whose constants lie in other files (external data) is refused: the checksum of its file does not cover them.
"""

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line, shortened
from spinmeround.storage.numbers import refuse_lfs_pointer

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

Dimension = int | str
"""A dimension of a network's input or output: a fixed size, or the name of a variable one."""
_EXTERNAL_KEY = b"location"
"""In every reference to external data."""


@dataclass(frozen=True)
class OnnxSignature:
    """Shapes of a network's inputs and outputs, in order."""

    inputs: tuple[tuple[Dimension, ...], ...]
    outputs: tuple[tuple[Dimension, ...], ...]


def onnx_model(path: Path) -> "ModelProto":
    """The network in an ONNX file. Raises ConfigError if it is no ONNX network, or has constants in other files."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import uses_external_data

    refuse_lfs_pointer(path)
    try:
        model = onnx.load(path, load_external_data=False)
        outside = next((each for each in onnx_tensors(model) if uses_external_data(each[1])), None)
    except (OSError, DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected an ONNX network, found {one_line(error)}") from error
    if outside is not None:
        name, tensor = outside
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        raise ConfigError(
            f"{path}: tensor {shortened(name, 80)}: expected its numbers in this file, found a reference to "
            f"{shortened(location, 80) or 'another file'}, which no checksum covers; join both into one file: "
            "onnx.save(onnx.load(OLD), NEW)"
        )
    return model


def refuse_external_data(path: Path) -> None:
    """Raises ConfigError as `onnx_model` for constants in other files; parses only a file that may have some."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            suspected = content.find(_EXTERNAL_KEY) >= 0
    if suspected:
        onnx_model(path)


def onnx_signature(path: Path) -> OnnxSignature:
    """The signature of an ONNX network. Raises SpinMeRoundError as `onnx_model`."""
    graph = onnx_model(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = _shapes(value for value in graph.input if value.name not in constants)
    if not inputs or not graph.output:
        raise SpinMeRoundError(f"{path}: expected an ONNX network, found a file without inputs or outputs")
    return OnnxSignature(inputs, _shapes(graph.output))


def onnx_tensors(model: "ModelProto") -> "Iterator[tuple[str, TensorProto]]":
    """All constants by name: initializers, and what nodes hold, which are named after their first output."""
    for name, tensor in _of_model(model):
        named: str | bytes = name  # protobuf gives bytes for a name that is no UTF-8
        yield named if isinstance(named, str) else named.decode("utf-8", "backslashreplace"), tensor


def _of_model(model: "ModelProto") -> "Iterator[tuple[Any, TensorProto]]":
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_attributes(function.name, function.attribute_proto)
        yield from _of_nodes(function.node)


def _of_graph(graph: "GraphProto") -> "Iterator[tuple[Any, TensorProto]]":
    yield from ((each.name, each) for each in graph.initializer)
    for sparse in graph.sparse_initializer:
        yield from ((sparse.values.name, each) for each in (sparse.values, sparse.indices))
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: "Iterable[NodeProto]") -> "Iterator[tuple[Any, TensorProto]]":
    for node in nodes:
        yield from _of_attributes(next(iter(node.output), node.name), node.attribute)


def _of_attributes(name: Any, attributes: "Iterable[AttributeProto]") -> "Iterator[tuple[Any, TensorProto]]":
    from onnx import AttributeProto, TensorProto, helper

    for each in attributes:
        sparse = [*each.sparse_tensors, *([each.sparse_tensor] if each.HasField("sparse_tensor") else [])]
        held = [*each.tensors, *([each.t] if each.HasField("t") else [])]
        held += [tensor for pair in sparse for tensor in (pair.values, pair.indices)]
        if each.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            floats = [each.f] if each.type == AttributeProto.FLOAT else list(each.floats)
            held.append(helper.make_tensor(each.name, TensorProto.FLOAT, [len(floats)], floats))
        yield from ((name, tensor) for tensor in held)
        for graph in (*each.graphs, *([each.g] if each.HasField("g") else [])):
            yield from _of_graph(graph)


def _shapes(values: Iterable[object]) -> tuple[tuple[Dimension, ...], ...]:
    return tuple(
        tuple(size.dim_value or size.dim_param for size in value.type.tensor_type.shape.dim)  # type: ignore[attr-defined]
        for value in values
    )
