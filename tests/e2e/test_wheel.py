"""The wheel in an empty folder, used from a directory whose own folders have the names of ours."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from tests.models.diffusion.networks import TINY_PROMPT, tiny_autoencoder, tiny_text_encoder, tiny_unet

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("flows", "tasks", "models", "panohead_bridge", "storage")
SETTINGS = {
    "generator.options.defect_share": 0.0,
    "plan.heads": 3,
    "views.azimuths": 8,
    "views.elevations_deg": [0.0],
    "sample.resolution": 16,
    "score.cells": 32,
    "score.recognition": "'none'",
    "screen": {},
    "render.resolution": 16,
    "mesh.resolution": 24,
    "train.unet.sample_size": 4,
    "execution.workers": 1,
}
READ = """
import spinmeround
from spinmeround import HeadDataset
data = HeadDataset.open({path!r})
print(spinmeround.__file__, data.digest, data.read_views(0, [0], ("rgb",))["rgb"].shape)
"""
GENERATE = """
import numpy as np
from spinmeround import SpinMeRoundPipeline, orbit
pipeline = SpinMeRoundPipeline.from_pretrained({path!r})
out = pipeline(orbit([0.0, 90.0], [0.0, 0.0]), identity=np.eye(512, dtype=np.float32)[0], num_inference_steps=1,
               output_type="np")
print(out.images.shape[0], np.isfinite(out.images).all())
"""
WITHOUT_EXTRAS = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {banned!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing else."""
    source, built, installed = (tmp_path_factory.mktemp(name) for name in ("source", "built", "installed"))
    for name in (*FOLDERS, "spinmeround"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", built, source], check=True)
    (wheel,) = built.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", installed, wheel], check=True)
    return installed


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's directory with folders of our names that hold something else."""
    for name in FOLDERS:
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "__init__.py").write_text(f"raise RuntimeError('the folder {name} of the user')")
    return tmp_path / "work"


def python(site: Path, folder: Path, *arguments: str, **environment: str) -> str:
    """Output of Python with the installed wheel, run in `folder`, whose own modules come first."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_one_top_level_name(site: Path) -> None:
    """It installs `spinmeround` with its types, profiles, templates and weights, and no other top-level folder."""
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"spinmeround", "bin"}
    package = site / "spinmeround"
    for name in (
        "py.typed",
        "flows/profiles/demo.toml",
        "tasks/templates/report.html.j2",
        "storage/embedded/index.json",
    ):
        assert (package / name).is_file(), name


def test_a_dataset_is_built_and_read_among_folders_of_our_names(site: Path, elsewhere: Path, server: str) -> None:
    """`spinmeround build` and `HeadDataset` work where `models`, `tasks`, `storage` and `flows` are the user's own."""
    overrides = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={_toml(value)}")]
    python(site, elsewhere, "-m", "spinmeround", "build", *overrides, PREFECT_API_URL=server)
    summary = json.loads((elsewhere / "runs/demo/summary.json").read_text())
    read = READ.format(path=summary["dataset"]["path"])
    where, digest, *_ = python(site, elsewhere, "-c", read).split()
    assert Path(where) == site / "spinmeround" / "__init__.py"
    assert digest == summary["dataset"]["digest"]
    assert python(site, elsewhere, "-c", _without_extras() + read).split()[1] == digest


def test_a_missing_extra_is_named(site: Path, elsewhere: Path) -> None:
    """Where torch is not installed, `HeadLoader` says what to install, and so does a command."""
    loader = _without_extras() + "import spinmeround\ntry:\n    spinmeround.HeadLoader\nexcept ImportError as error:\n"
    assert 'pip install "spinmeround[train]"' in python(site, elsewhere, "-c", loader + "    print(error)")
    command = "from spinmeround.flows.cli.app import app\ntry:\n    app(['build'])\nexcept SystemExit as end:\n"
    done = subprocess.run(
        [sys.executable, "-c", _without_extras() + command + "    sys.exit(end.code)"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert 'pip install "spinmeround[build]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_pipeline_generates_among_folders_of_our_names(site: Path, elsewhere: Path, tmp_path: Path) -> None:
    """A saved pipeline is loaded by its public name and generates the requested views."""
    pipeline = SpinMeRoundPipeline(tiny_unet(), tiny_autoencoder(), tiny_text_encoder(), TINY_PROMPT.model_dump())
    pipeline.save_pretrained(tmp_path / "pipeline")
    assert python(site, elsewhere, "-c", GENERATE.format(path=str(tmp_path / "pipeline"))).split() == ["2", "True"]


def _without_extras() -> str:
    """Code after which the modules of the extras can't be imported."""
    banned = {
        "prefect",
        "torch",
        "scipy",
        "skimage",
        "insightface",
        "onnx",
        "onnxruntime",
        "obstore",
        "PIL",
        "diffusers",
    }
    banned |= {"transformers", "trimesh", "mcubes", "matplotlib", "jinja2", "huggingface_hub", "safetensors", "embreex"}
    return WITHOUT_EXTRAS.format(banned=banned)


def _toml(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
