"""Checks the values of weights: one NaN in a network makes all that it returns NaN."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line
from spinmeround.storage.numbers import check_tensor_files, check_tensors
from spinmeround.storage.weights.onnx_files import onnx_model, onnx_tensors

if TYPE_CHECKING:
    from onnx import TensorProto
    from torch import Tensor

_ADVICE = "get the weights again from their publisher"


def check_files(place: Path | str, files: Iterable[Path]) -> None:
    """Check all tensors in files of weights. Raises ConfigError, which names the tensor that is not finite."""
    try:
        check_tensor_files(place, files)
    except SpinMeRoundError as error:
        raise ConfigError(f"{error}; {_ADVICE}") from error


def check_values(place: Path | str, tensors: "Iterable[tuple[str, Tensor]]") -> None:
    """Check the named tensors of the network at `place`. Raises ConfigError as `check_files`."""
    try:
        check_tensors(place, tensors, may_be_blank=False)
    except ConfigError:
        raise
    except SpinMeRoundError as error:
        raise ConfigError(f"{error}; {_ADVICE}") from error


def check_onnx(path: Path) -> None:
    """Check the constants of an ONNX network, those of its nodes too. Raises ConfigError as `check_files`.

    A single number may be infinite (the bound of a Clip) and says nothing on whether all weights are zero.
    """
    found = [(name, tensor) for name, tensor in onnx_tensors(onnx_model(path)) if _is_float(path, name, tensor)]
    for name, tensor in found:
        if math.prod(tensor.dims) == 1 and bool((number := _numbers(path, name, tensor)).isnan().any()):
            raise ConfigError(f"{path}: tensor {name}: expected a number, found {number.item()}; {_ADVICE}")
    arrays = [(name, tensor) for name, tensor in found if math.prod(tensor.dims) != 1]
    check_values(path, ((name, _numbers(path, name, tensor)) for name, tensor in arrays))


def _is_float(path: Path, name: str, tensor: "TensorProto") -> bool:
    from onnx import TensorProto

    if tensor.data_type not in TensorProto.DataType.values():
        raise ConfigError(
            f"{path}: tensor {name}: expected a data type of ONNX, found number {tensor.data_type}; {_ADVICE}"
        )
    kind: str = TensorProto.DataType.Name(tensor.data_type)
    return kind == "DOUBLE" or kind.startswith(("FLOAT", "BFLOAT", "COMPLEX"))


def _numbers(path: Path, name: str, tensor: "TensorProto") -> "Tensor":
    import torch
    from onnx import numpy_helper

    try:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "c":
            values = abs(values)
        # torch reads no bfloat16 and no float8 of numpy
        return torch.from_numpy(values.copy() if values.dtype.kind == "f" else values.astype("float32"))
    except Exception as error:  # of numpy, about sizes and shapes that contradict each other
        raise ConfigError(
            f"{path}: constant {name}: expected the numbers of its shape, found {one_line(error, 120)}; {_ADVICE}"
        ) from error
