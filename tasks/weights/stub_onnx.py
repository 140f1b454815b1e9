"""Random networks with the inputs and outputs of InsightFace's packs.

The recognition networks are ArcFace's residual networks (IResNet-100 and -50 at full size). A random detector would
find nothing, so this one is constructed: it finds one face in the centre of a square picture if that is not white,
with the landmarks of a frontal face.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from insightface.data import get_object
from onnx import TensorProto, helper, numpy_helper

_LANDMARKS = np.array([[-0.10, -0.08], [0.10, -0.08], [0.0, 0.02], [-0.07, 0.12], [0.07, 0.12]])
"""Landmarks of the detected face, relative to the centre, in units of the picture's side."""
_HALF_BOX = np.array([0.2, 0.25, 0.2, 0.25])
_OUTPUTS = ("448", "471", "494", "451", "474", "497", "454", "477", "500")


class _Graph:
    """Collects the nodes and tensors of a graph; `add` returns the name of a node's output."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def tensor(self, values: Any, kind: Any = np.float32) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}_{len(self.nodes)}", **attributes))
        return name

    def conv(self, source: str, taken: int, given: int, *, kernel: int = 3, stride: int = 1) -> str:
        spread = np.sqrt(2 / (taken * kernel**2))
        weight = self.rng.standard_normal((given, taken, kernel, kernel), np.float32) * np.float32(spread)
        edge = kernel // 2
        return self.add(
            "Conv", source, self.tensor(weight), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[edge] * 4
        )

    def norm(self, source: str, channels: int) -> str:
        one, zero = self.tensor(np.ones(channels)), self.tensor(np.zeros(channels))
        return self.add("BatchNormalization", source, one, zero, zero, one)

    def prelu(self, source: str, channels: int) -> str:
        return self.add("PRelu", source, self.tensor(np.full((channels, 1, 1), 0.25)))

    def save(self, path: Path, taken: Any, given: Sequence[Any]) -> None:
        graph = helper.make_graph(self.nodes, path.stem, [taken], list(given), self.tensors)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def _value(name: str, shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def write_recognition(path: Path, *, blocks: Sequence[int], widths: Sequence[int], seed: int) -> None:
    """ArcFace's improved residual network; `blocks` and `widths` of its four stages."""
    graph = _Graph(seed)
    width = widths[0]
    state = graph.prelu(graph.norm(graph.conv("input.1", 3, width), width), width)
    for count, given in zip(blocks, widths, strict=True):
        for block in range(count):
            state = _residual(graph, state, width, given, stride=1 if block else 2)
            width = given
    flat = graph.add("Flatten", graph.norm(state, width))
    numbers = width * 7 * 7
    weight = graph.rng.standard_normal((numbers, 512), np.float32) / np.float32(np.sqrt(numbers))
    graph.add("MatMul", flat, graph.tensor(weight), output="683")
    graph.save(path, _value("input.1", ["n", 3, 112, 112]), [_value("683", ["n", 512])])


def _residual(graph: _Graph, state: str, taken: int, given: int, stride: int) -> str:
    inner = graph.prelu(graph.conv(graph.norm(state, taken), taken, given), given)
    inner = graph.norm(graph.conv(inner, given, given, stride=stride), given)
    if stride != 1 or taken != given:
        state = graph.norm(graph.conv(state, taken, given, kernel=1, stride=stride), given)
    return graph.add("Add", inner, state)


def write_detector(path: Path, *, widths: Sequence[int], seed: int) -> None:
    """SCRFD with landmarks: scores, boxes and landmarks of two anchors per cell at strides 8, 16 and 32."""
    graph = _Graph(seed)
    state, taken = "input.1", 3
    for width in widths:
        state, taken = graph.conv(state, taken, width, stride=2), width
    seen = graph.add("Tanh", graph.add("ReduceMean", state))
    trace = graph.add("Mul", seen, graph.tensor(1e-6))
    levels = [_level(graph, stride, trace, finds=stride == 32) for stride in (8, 16, 32)]
    given = []
    for component, size in enumerate((1, 4, 10)):
        for level, anchors in enumerate(levels):
            name = _OUTPUTS[3 * component + level]
            graph.add("Identity", anchors[component], output=name)
            given.append(_value(name, [f"anchors{level}", size]))
    graph.save(path, _value("input.1", [1, 3, "?", "?"]), given)


def _level(graph: _Graph, stride: int, trace: str, *, finds: bool) -> tuple[str, str, str]:
    """Scores, boxes and landmarks at one stride; lengths in cells."""
    cells = graph.add("AveragePool", "input.1", kernel_shape=[stride] * 2, strides=[stride] * 2)
    light = graph.add("ReduceMean", cells, axes=[1])  # 1 1 h w
    ones = graph.add("Add", graph.add("Mul", light, graph.tensor(0.0)), graph.tensor(1.0))
    middle, side = [], ""
    for axis in (2, 3):
        count = graph.add("CumSum", ones, graph.tensor(axis, np.int64))
        side = graph.add("ReduceMax", count)
        half = graph.add("Floor", graph.add("Mul", side, graph.tensor(0.5)))
        here = graph.add("Equal", count, graph.add("Add", half, graph.tensor(1.0)))
        middle.append(graph.add("Cast", here, to=TensorProto.FLOAT))
    shade = graph.add("Mul", graph.add("Sub", graph.tensor(0.98), light), graph.tensor(20.0 if finds else 0.0))
    shown = graph.add("Clip", shade, graph.tensor(0.0), graph.tensor(0.9))
    score = graph.add("Mul", graph.add("Mul", shown, middle[0]), middle[1])
    score = graph.add("Add", score, trace)
    nothing = graph.add("Mul", ones, graph.tensor(0.0))
    boxes, landmarks = (
        graph.add("Mul", graph.add("Mul", ones, graph.tensor(shares.reshape(1, -1, 1, 1))), side)
        for shares in (_HALF_BOX, _LANDMARKS)
    )
    pairs = ((score, nothing), (boxes, boxes), (landmarks, landmarks))
    return tuple(_rows(graph, pair, size) for pair, size in zip(pairs, (1, 4, 10), strict=True))  # type: ignore[return-value]


def _rows(graph: _Graph, pair: tuple[str, str], size: int) -> str:
    """Two anchors of each cell as rows, cell by cell."""
    both = graph.add("Transpose", graph.add("Concat", *pair, axis=1), perm=[0, 2, 3, 1])
    return graph.add("Reshape", both, graph.tensor([-1, size], np.int64))


def write_landmarks_3d(path: Path, *, seed: int) -> None:
    """1k3d68: the frontal mean face plus a small response to the picture."""
    graph = _Graph(seed)
    face = np.zeros((1103, 3))
    face[-68:] = get_object("meanshape_68.pkl") * 0.6
    blocks = graph.add("AveragePool", "data", kernel_shape=[32, 32], strides=[32, 32])
    weight = graph.rng.standard_normal((108, 3309), np.float32) * np.float32(1e-4)
    response = graph.add("Tanh", graph.add("MatMul", graph.add("Flatten", blocks), graph.tensor(weight)))
    graph.add("Add", graph.add("Mul", response, graph.tensor(0.01)), graph.tensor(face.reshape(1, -1)), output="fc1")
    graph.save(path, _value("data", ["n", 3, 192, 192]), [_value("fc1", [1, 3309])])
