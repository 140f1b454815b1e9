"""Checks of a machine before a build."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.profile import load_profile
from spinmeround.tasks.overview import doctor
from spinmeround.tasks.overview.doctor import Check, check_machine

pytestmark = pytest.mark.fast
GIB = 2**30


def checks(folder: Path, *overrides: str, profile: str = "demo") -> dict[str, Check]:
    """The checks by name."""
    return {each.name: each for each in check_machine(load_profile(profile, overrides), folder / "store")}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which torch sees a GPU."""
    device = SimpleNamespace(name="NVIDIA H200", total_memory=140e9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: device)


def disk_of(free: int) -> Callable[[Any], SimpleNamespace]:
    return lambda folder: SimpleNamespace(free=free)


def test_the_demo_needs_nothing(tmp_path: Path) -> None:
    """Everything of the embedded default is there, and the store's folder is not even made."""
    found = checks(tmp_path)
    assert {each.state for each in found.values()} == {"ok"}
    assert {"generator", "normals", "weights recognition", "store", "disk"} <= found.keys()
    assert list(tmp_path.iterdir()) == []


def test_a_bare_machine_for_panohead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkout and each part are named, with the command that fetches it; the exit status is 1."""
    monkeypatch.chdir(tmp_path)
    found = checks(tmp_path, profile="panohead")
    assert found["GPU"].state == "warning"
    assert "generator.options.checkout" in found["generator"].found
    assert "spinmeround weights fetch arcface" in found["weights arcface"].found
    bad = {name for name, each in found.items() if each.state == "error"}
    later = {"sd15-vae", "arc2face-unet", "arc2face-encoder", "lpips-alexnet"}  # which training and evaluation read
    assert {name for name, each in found.items() if each.state == "warning"} >= {f"weights {name}" for name in later}
    assert bad == {
        "generator",
        *(f"weights {name}" for name in ("panohead-checkout", "panohead", "arcface", "antelopev2")),
    }
    shown = CliRunner().invoke(app, ["doctor", "panohead", "--runs", str(tmp_path)])
    assert shown.exit_code == 1
    assert f"profile panohead: {len(bad)} to mend before a build" in shown.output


def test_onnxruntime_without_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: None) -> None:
    """With a GPU, the CPU build of onnxruntime is a warning with what to install; with CUDA it is none."""
    assert "H200 (140 GB)" in checks(tmp_path)["GPU"].found
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert checks(tmp_path)["onnxruntime"].state == "warning"
    assert "pip install onnxruntime-gpu" in checks(tmp_path)["onnxruntime"].found
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert checks(tmp_path)["onnxruntime"].state == "ok"


def test_two_onnxruntimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both distributions have the same files, so one of them is damaged."""
    monkeypatch.setattr(doctor, "_installed", lambda *names: list(names))
    check = checks(tmp_path)["onnxruntime"]
    assert check.state == "warning"
    assert "both installed" in check.found
    assert "pip uninstall --yes onnxruntime onnxruntime-gpu" in check.found


@pytest.mark.parametrize(("free", "state"), [(GIB // 2, "error"), (2 * GIB, "warning"), (2000 * GIB, "ok")])
def test_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str) -> None:
    """Full, smaller than the pictures without compression (3.6 GB), and large enough."""
    monkeypatch.setattr(shutil, "disk_usage", disk_of(free))
    assert checks(tmp_path, "plan.heads=1000")["disk"].state == state


@pytest.mark.parametrize(
    ("name", "message"), [("file", "found a file"), ("s3://no/such bucket", "expected s3://bucket")]
)
def test_a_store_that_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    """A file where the folder should be, and a URL of no bucket."""
    (tmp_path / "file").write_text("in the way")
    (check,) = doctor._store(name if "://" in name else tmp_path / name)
    assert (check.name, check.state) == ("store", "error")
    assert message in check.found


def test_a_nested_pack_and_a_wrong_file(tmp_path: Path) -> None:
    """As `weights check` says: the pack's files are one folder deeper, the recognition network is no ONNX file."""
    inner = tmp_path / "antelopev2" / "antelopev2"
    inner.mkdir(parents=True)
    (inner / "scrfd_10g_bnkps.onnx").write_bytes(b"?")
    (tmp_path / "r.onnx").write_bytes(b"no network")
    found = checks(tmp_path, f"embed.pack={tmp_path / 'antelopev2'}", f"embed.recognition={tmp_path / 'r.onnx'}")
    bad = {name: each.found for name, each in found.items() if each.state == "error"}
    assert any("r.onnx" in text for text in bad.values())
    assert any("antelopev2" in text for text in bad.values())
