"""The precision of a training's layers, and whether the machine computes it well.

float32    products of IEEE float32 everywhere
tf32       float32, whose products an NVIDIA GPU rounds to TF32; the same as float32 on other devices
bfloat16   torch's autocast; weights, gradients and moments stay in float32
float16    as bfloat16, with a scale on the loss that keeps small gradients from underflow; not on a CPU
"""

from typing import Literal

import torch

from spinmeround.models.device import warn_of_emulation
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.params import Precision

_AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_ACCELERATE: dict[Precision, Literal["no", "bf16", "fp16"]] = {"bfloat16": "bf16", "float16": "fp16"}


def autocast_dtype(precision: Precision) -> torch.dtype | None:
    """The type that torch's autocast computes layers in; None without autocast."""
    return _AUTOCAST.get(precision)


def accelerate_precision(precision: Precision) -> Literal["no", "bf16", "fp16"]:
    """The precision by accelerate's name."""
    return _ACCELERATE.get(precision, "no")


def set_precision(precision: Precision, device: torch.device) -> None:
    """Set how this process rounds products of float32, and check that the device computes the precision.

    Warns about bfloat16 on a device without units for it. Raises ConfigError for float16 on a CPU.
    """
    if precision == "float16" and device.type == "cpu":
        raise ConfigError("train.precision: expected float32 or bfloat16 on a CPU, got float16")
    warn_of_emulation(autocast_dtype(precision) or torch.float32, device, "set train.precision to float32")
    # torch's newer fp32_precision makes its own export to ONNX raise in this process from then on
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
