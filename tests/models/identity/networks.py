"""Small ONNX networks with random weights in the format of insightface's recognition models."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_network(path, *, normalises_input=False, batch="batch", side=112, outputs=512, seed=0):
    """Writes a network that averages 16 x 16 blocks of [n, 3, side, side] RGB and maps them linearly to `outputs`.

    With `normalises_input` the graph starts with nodes named Sub and Mul, as networks converted from MXNet do.
    """
    rng = np.random.default_rng(seed)
    flat = 3 * (side // 16) ** 2
    tensors = {
        "weight": rng.standard_normal((flat, outputs)) / np.sqrt(flat),
        "middle": np.array(127.5),
        "scale": np.array(1 / 127.5),
    }
    scaling = [
        helper.make_node("Sub", ["data", "middle"], ["centred"], name="Sub_0"),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="Mul_0"),
    ]
    source = "scaled" if normalises_input else "data"
    nodes = [
        *(scaling if normalises_input else []),
        helper.make_node("AveragePool", [source], ["blocks"], name="pool", kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["blocks"], ["row"], name="flatten"),
        helper.make_node("MatMul", ["row", "weight"], ["embedding"], name="linear"),
    ]
    graph = helper.make_graph(
        nodes,
        "recognition",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path, tensors["weight"]
