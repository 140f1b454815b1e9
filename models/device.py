"""The device of all networks, the same rule for every stage, so that profiles do not depend on the machine."""

import warnings
from typing import Any

import torch

_X86_UNITS = ("amx_bf16", "avx512_bf16")
_ARM_UNITS = ("bf16", "sve_bf16")
_INSTRUCTION_SETS = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 with bfloat16"), ("avx512_f", "AVX-512"))


def best_device() -> torch.device:
    """The first CUDA device visible to this process, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device has units for bfloat16. Without them torch emulates it, at a fraction of float32's speed."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        found = _capabilities()
        return any(found.get(name, False) for name in (*_X86_UNITS, *_ARM_UNITS))
    return True


def warn_of_emulation(dtype: torch.dtype, device: torch.device, remedy: str) -> None:
    """Warn if networks compute in bfloat16 on a device without units for it; `remedy` says what to do."""
    if dtype == torch.bfloat16 and not computes_bfloat16(device):
        warnings.warn(
            f"bfloat16 is slower than float32 on this device ({instruction_set(device)}), which has no units for it: "
            f"{remedy}",
            stacklevel=3,
        )


def instruction_set(device: torch.device) -> str:
    """What limits the speed of the device, as a figure of speed names it: its model, or a CPU's vector instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    found = _capabilities()
    named = (name for flag, name in _INSTRUCTION_SETS if found.get(flag, False))
    return next(named, torch.backends.cpu.get_cpu_capability().replace("DEFAULT", "no vector instructions"))


def _capabilities() -> dict[str, Any]:
    return dict(torch.cpu.get_capabilities())
