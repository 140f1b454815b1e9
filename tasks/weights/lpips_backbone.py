"""LPIPS with the backbone in a user's file, which passes the same checks as every network from outside.

The file is torchvision's own .pth or a .safetensors file of the same tensors. Nothing is downloaded.
"""

from pathlib import Path

import numpy as np

from spinmeround.models.metrics.missing import Missing
from spinmeround.models.metrics.perceptual import Lpips, LpipsNet, backbone_shapes, file_name
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.storage.numbers import read_tensors
from spinmeround.storage.weights import TensorHeader, check_values, tensor_headers
from spinmeround.tasks.weights.tensor_names import compare


def check_backbone(file: Path, net: LpipsNet = "alex") -> str:
    """The number of tensors and parameters of the backbone. Raises SpinMeRoundError for a file of anything else."""
    wanted = {name: TensorHeader(shape) for name, shape in backbone_shapes(net).items()}
    headers = tensor_headers(file)
    used = {name: header for name, header in headers.items() if name.startswith("features.")}
    summary = compare(file, wanted, used or headers, stated_by=f"torchvision's {net}")
    found = {name: tensor for name, tensor in read_tensors(file) if name in used}
    check_values(file, found.items())
    blank = next((name for name, tensor in found.items() if tensor.ndim > 1 and not bool(tensor.any())), None)
    if blank is not None:
        raise SpinMeRoundError(f"{file}: tensor {blank}: expected values, found only zeros; get the weights again")
    return summary


def load_lpips(file: Path | None, net: LpipsNet = "alex", *, field: str = "") -> Lpips | Missing:
    """LPIPS, or the reason why it is missing if there is no file.

    Raises ConfigError, whose message begins with `field`, for a file of anything else, and for weights that give no
    finite distance.
    """
    advice = f"(torchvision's {file_name(net)}; `spinmeround weights list` shows how to get it)"
    if file is None:
        return Missing(f"no weights configured for the {net} backbone {advice}")
    if not file.exists():
        return Missing(f"no weights for the {net} backbone at {file} {advice}")
    try:
        check_backbone(file, net)
        found = Lpips(net, dict(read_tensors(file)))
        _try(file, found)
    except SpinMeRoundError as error:
        raise ConfigError(f"{field}: {error}" if field else str(error)) from error
    return found


def _try(file: Path, found: Lpips) -> None:
    """Raises SpinMeRoundError if the distance of two pictures is zero or no number."""
    first, second = np.random.default_rng(0).random((2, 64, 64, 3))
    distance = float(found(first, second))
    if not (np.isfinite(distance) and distance > 0):
        raise SpinMeRoundError(
            f"{file}: expected a backbone that tells pictures apart, found a distance of {distance} between two; get "
            "the weights again from their publisher"
        )
