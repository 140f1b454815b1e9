"""Checks the values of weights: one NaN in a network makes all that it returns NaN."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, one_line
from spinmeround.storage.numbers import check_tensor_files, check_tensors
from spinmeround.storage.weights.headers import onnx_graph

if TYPE_CHECKING:
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
    """Check the constants of an ONNX network. Raises ConfigError as `check_files`."""
    import onnx
    import torch
    from onnx.external_data_helper import uses_external_data

    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    held = [each for each in onnx_graph(path).initializer if each.data_type in floats and not uses_external_data(each)]

    def values(constant: "onnx.TensorProto") -> "Tensor":
        try:
            return torch.from_numpy(onnx.numpy_helper.to_array(constant).copy())
        except Exception as error:  # of numpy, about sizes and shapes that contradict each other
            raise ConfigError(
                f"{path}: constant {constant.name}: expected the numbers of its shape, found {one_line(error, 120)}; "
                f"{_ADVICE}"
            ) from error

    check_values(path, ((each.name, values(each)) for each in held))
