"""Which way the arrows point: storage is at the bottom."""

import subprocess
import sys

import pytest

PROBE = "import sys, spinmeround.storage.{module}; print([name for name in {banned} if name in sys.modules])"
OURS = [f"spinmeround.{name}" for name in ("flows", "tasks", "models", "panohead_bridge")]


def loaded(module: str, banned: list[str]) -> str:
    code = PROBE.format(module=module, banned=banned)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("module", ["artifacts", "dataset", "weights"])
def test_storage_is_light(module: str) -> None:
    """No torch, Prefect or other packages of ours come with the store, the dataset and the weights."""
    assert loaded(module, ["torch", "prefect", *OURS]) == "[]"


def test_the_probe_can_fail() -> None:
    """The probe sees what is really imported: the dataset is Zarr's."""
    assert loaded("dataset", ["zarr", "prefect"]) == "['zarr']"
