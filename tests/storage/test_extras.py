"""A missing optional dependency is reported with the command that installs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from spinmeround.storage import extras
from spinmeround.storage.dataset import HeadDataset, publish
from spinmeround.storage.errors import MissingDependency
from spinmeround.storage.extras import extra_of, missing_extra, optional_dependency
from tests.support.heads import write_heads


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("torch", "train"),
        ("prefect", "build"),
        ("obstore", "s3"),
        ("datasets", "exchange"),
        ("mcubes", "build"),
        ("skimage", "build"),
        ("PIL", "build"),
        ("huggingface_hub", "build"),
    ],
)
def test_extra_of_a_module(module: str, extra: str) -> None:
    """Modules map to the extras of pyproject.toml, those whose distribution has another name too."""
    assert extra_of(module) == extra
    hint = missing_extra(ModuleNotFoundError("", name=f"{module}.inner"))
    assert hint == f'needs {module!r}, which is not installed: pip install "spinmeround[{extra}]"'


@pytest.mark.parametrize("module", ["spinmeround", "numpy", "zarr", "pytest", "no_such_module", ""])
def test_other_modules_have_no_extra(module: str) -> None:
    """Required dependencies, development tools, this package and unknown modules give no advice."""
    assert missing_extra(ModuleNotFoundError("", name=module)) is None


def test_a_source_tree_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without metadata of the distribution no extra is known."""
    monkeypatch.setattr(extras, "_DISTRIBUTION", "no-such-distribution")
    assert extra_of("torch") is None


def test_optional_dependency_names_the_feature() -> None:
    """A missing module of an extra becomes a user error; any other failed import stays as it is."""
    with (
        pytest.raises(MissingDependency, match=r"s3://a needs 'obstore'.*spinmeround\[s3\]"),
        optional_dependency("s3://a"),
    ):
        raise ModuleNotFoundError(name="obstore")
    with pytest.raises(ModuleNotFoundError), optional_dependency("s3://a"):
        raise ModuleNotFoundError(name="no_such_module")


_BLOCKED = """
import sys
for name in ("obstore", "huggingface_hub", "onnx", "PIL", "torch", "scipy", "prefect", "safetensors"):
    sys.modules[name] = None
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
dataset = HeadDataset.open(sys.argv[1])
print(dataset.read_views(1, [0, 2])["rgb"].shape, len(dataset.split("train")), dataset.digest[:12])
for open_it in (lambda: HeadDataset.open("s3://bucket/heads.zarr"), lambda: ArtifactStore("s3://bucket/store")):
    try:
        open_it()
    except ValueError as error:
        print(error)
"""


def test_reading_needs_no_extra(tmp_path: Path) -> None:
    """Without the modules of the extras, a local dataset is readable; a URL reports which extra is missing."""
    path = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(2)), {}).path
    done = subprocess.run([sys.executable, "-c", _BLOCKED, str(path)], capture_output=True, text=True, check=True)
    hint = "needs 'obstore', which is not installed: pip install \"spinmeround[s3]\""
    assert done.stdout.splitlines() == [
        f"(2, 8, 8, 3) {len(HeadDataset.open(path).split('train'))} {path.stem}",
        f"s3://bucket/heads.zarr {hint}",
        f"artifact store s3://bucket/store {hint}",
    ]
