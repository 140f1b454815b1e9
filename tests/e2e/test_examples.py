"""The numbered examples run in order, at small sizes, on one dataset that the first of them builds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spinmeround.storage.dataset import HeadDataset

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FEW = ["views={azimuths=8, elevations_deg=[0.0]}", "score.cells=48", "mesh.resolution=48", "execution.workers=1"]
SMALL = [
    *FEW,
    "plan.heads=3",
    "generator.options.defect_share=0.0",
    "screen.verdict=''",
    "train.initial.unet=random",
    "train.unet.block_out_channels=[32, 32]",
    "train.unet.attention_levels=[true, true]",
    "train.unet.multiview_factors=[1, 2]",
    "train.batch=1",
    "train.adapt.steps=1",
    "train.single_view.steps=1",
    "train.multi_view.steps=1",
]


def run_example(name: str, *arguments: str | Path, server: str) -> str:
    """What an example prints."""
    environment = {**os.environ, "PREFECT_API_URL": server, "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        env=environment,
        text=True,
        capture_output=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def options(overrides: list[str]) -> list[str]:
    """Overrides of a profile as options of an example."""
    return [word for override in overrides for word in ("--set", override)]


@pytest.fixture(scope="module")
def runs(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with the dataset of the first example."""
    folder = tmp_path_factory.mktemp("examples") / "runs"
    printed = run_example("01_build_dataset.py", "--runs", folder, *options(SMALL), server=server)
    assert "publish: 1 made, 0 reused" in printed
    return folder


def test_a_dataset_is_read(server: str, runs: Path, tmp_path: Path) -> None:
    """Example 2 prints the arrays and draws a picture of the published heads."""
    printed = run_example("02_read_dataset.py", "--runs", runs, "--to", tmp_path / "heads.png", server=server)
    assert "(3, 8, 64, 64, 3) uint8" in printed
    assert (tmp_path / "heads.png").stat().st_size > 1000


def test_batches_are_loaded(server: str, runs: Path) -> None:
    """Example 3 loads batches, and resumes with the same one."""
    printed = run_example("03_load_batches.py", "--runs", runs, "--views", "4", "--batch", "1", server=server)
    assert "(1, 4, 3, 64, 64) torch.float32" in printed
    assert "resumed with the same batch" in printed


def test_a_model_is_trained_and_generates(server: str, runs: Path, tmp_path: Path) -> None:
    """Example 4 reuses the dataset, trains, and writes views and normals."""
    words = ["--runs", runs, "--steps", "1", "--views", "3", "--to", tmp_path / "generated", *options(SMALL)]
    printed = run_example("04_train_and_generate.py", *words, server=server)
    assert all(f"{phase}: 1 steps, loss" in printed for phase in ("adapt", "single-view", "multi-view"))
    assert len(list((tmp_path / "generated").glob("view-*.png"))) == 3
    assert len(list((tmp_path / "generated").glob("normals-*.png"))) == 3


def test_a_generator_of_the_users_own_builds(server: str, tmp_path: Path) -> None:
    """Example 5 builds a dataset of ellipsoids with the module next to it."""
    words = ["--heads", "2", "--runs", tmp_path / "runs", *options(FEW)]
    printed = run_example("05_own_generator.py", *words, server=server)
    path = Path(printed.split()[-1])
    assert HeadDataset.open(path).ids == ("ellipsoids-000000", "ellipsoids-000001")
