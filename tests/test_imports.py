"""Imports stay light: reading a dataset needs few packages, and configuration loads no library that computes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import spinmeround

PROBE = "import importlib, json, sys; importlib.import_module({module!r}); print(json.dumps(sorted(sys.modules)))"
PACKAGE = Path(spinmeround.__file__).parent
OTHER_PACKAGES = {f"spinmeround.{name}" for name in ("flows", "tasks", "models", "panohead_bridge")}
COMPUTING = {
    *("torch", "torchvision", "diffusers", "transformers", "scipy", "skimage", "insightface", "onnx", "onnxruntime"),
    *("trimesh", "mcubes", "matplotlib", "sklearn"),
}
OPTIONAL = COMPUTING | {"obstore", "huggingface_hub", "safetensors", "PIL", "prefect", "jinja2", "psutil", "fastapi"}
"""Packages that a reader's installation does not have."""


def loaded(module: str) -> set[str]:
    """Names of the modules that importing `module` in a new process loads."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


def modules(pattern: str) -> list[str]:
    """Names of the modules whose files match the pattern below the package."""
    paths = sorted(PACKAGE.glob(pattern))
    names = [".".join(("spinmeround", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


@pytest.mark.parametrize("folder", ["artifacts", "codec", "dataset", "weights", "checkpoints", "extras"])
def test_storage_is_light(folder: str) -> None:
    """The store, the codec, the dataset, weights and checkpoints load no optional package and no other layer."""
    assert loaded(f"spinmeround.storage.{folder}") & (OPTIONAL | OTHER_PACKAGES) == set()


CONFIGURATION = [
    "spinmeround.flows.profile",
    "spinmeround.flows.cli.app",
    "spinmeround.flows.run.session",
    "spinmeround.tasks.stage",
    "spinmeround.tasks.heads.registry",
    *modules("*/**/params.py"),
]


@pytest.mark.parametrize("module", CONFIGURATION)
def test_configuration_loads_no_computing_library(module: str) -> None:
    """Parameters, profiles, stages and commands are declared without the libraries that run them."""
    assert loaded(module) & COMPUTING == set()


def test_the_probe_can_fail() -> None:
    """The probe reports what is imported: the dataset loads zarr, the latents load torch."""
    assert "zarr" in loaded("spinmeround.storage.dataset")
    assert "torch" in loaded("spinmeround.models.diffusion.latents")
