"""Export of the embedded networks to ONNX."""

import io

import numpy as np
import onnx
import torch
from torch import Tensor, nn


def onnx_file(network: nn.Module, example: Tensor, *outputs: str) -> bytes:
    """The network as an ONNX file with one input, `input`, for any number of pictures of the example's size.

    Raises ValueError if a weight is not finite.
    """
    program = torch.onnx.export(
        network.eval(),
        (example,),
        input_names=["input"],
        output_names=list(outputs),
        dynamic_shapes=({0: torch.export.Dim("picture", min=1)},),
        dynamo=True,
        optimize=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export: expected a program, got None")
    model = program.model_proto
    if not all(np.isfinite(onnx.numpy_helper.to_array(w)).all() for w in model.graph.initializer):
        raise ValueError(
            f"{', '.join(outputs)}: expected finite trained weights, found NaN or infinity; lower learning_rate"
        )
    buffer = io.BytesIO()
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")  # stack traces of the exporter, which contain local paths
    onnx.save_model(model, buffer)
    return buffer.getvalue()
