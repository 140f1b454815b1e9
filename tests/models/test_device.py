"""What the device of this machine can compute."""

import warnings

import pytest
import torch

from spinmeround.models import device as module
from spinmeround.models.device import computes_bfloat16, instruction_set, warn_of_emulation

CPU = torch.device("cpu")
MACHINES = {
    "AVX2": ({"avx2": True, "avx512_f": False}, False),
    "AVX-512": ({"avx512_f": True, "avx512_bf16": False}, False),
    "AVX-512 with bfloat16": ({"avx512_f": True, "avx512_bf16": True}, True),
    "AMX": ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": True}, True),
}


@pytest.mark.parametrize(("name", "machine"), MACHINES.items(), ids=MACHINES)
def test_bfloat16_without_units_is_warned_of(
    name: str, machine: tuple[dict[str, bool], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the instructions of known CPUs; float32 is fine everywhere. The warning names what the CPU has."""
    capabilities, units = machine
    monkeypatch.setattr(module, "_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert instruction_set(CPU) == name
    assert computes_bfloat16(CPU) == units
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_emulation(torch.float32, CPU, "no")
        warn_of_emulation(torch.bfloat16, CPU, "use float32")
    expected = f"bfloat16 is slower than float32 on this device ({name}), which has no units for it: use float32"
    assert [str(warning.message) for warning in caught] == ([] if units else [expected])
