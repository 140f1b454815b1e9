"""GPUs are counted as CUDA counts them, without torch."""

from pathlib import Path

import pytest

from spinmeround.tasks.gpus import VISIBLE, visible_gpus
from tests.support.gpus import list_gpus

pytestmark = pytest.mark.fast

MIG = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6)
  MIG 1g.5gb      Device  0: (UUID: MIG-0a)
  MIG 1g.5gb      Device  1: (UUID: MIG-0b)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-89ab)
"""


@pytest.mark.parametrize(
    ("listing", "limit", "expected"),
    [
        (3, None, ("0", "1", "2")),
        (8, "6,2", ("6", "2")),
        (8, " 6 , 2", ("6", "2")),
        (2, "1,5,0", ("1",)),
        (2, "", ()),
        (2, "-1", ()),
        (2, "NoDevFiles", ()),
        (2, "GPU-1a7c-11,0", ("GPU-1a7c-11", "0")),
        (2, "GPU-1a7", ("GPU-1a7",)),
        (MIG, None, ("MIG-0a", "MIG-0b", "1")),
        (MIG, "MIG-0b", ("MIG-0b",)),
        (0, "0,1", ()),
    ],
)
def test_visible_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: int | str, limit: str | None, expected: tuple[str, ...]
) -> None:
    """All, or those of CUDA_VISIBLE_DEVICES before the first that does not exist; instances instead of their GPU."""
    list_gpus(tmp_path, monkeypatch, listing)
    if limit is not None:
        monkeypatch.setenv(VISIBLE, limit)
    assert visible_gpus() == expected


def test_a_machine_without_a_driver_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither nvidia-smi nor devices: no GPU, whatever is visible."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(VISIBLE, "0,1")
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        assert visible_gpus() == ()
