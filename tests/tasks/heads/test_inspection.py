"""The inspector of the score stage, and training one on a generator's own previews."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Rendering
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.embedded.params import InspectorParams
from spinmeround.tasks.heads.inspection import cached_inspector
from spinmeround.tasks.heads.sample_files import Previews, write_previews
from spinmeround.tasks.heads.score import SCORE, ScoreParams, ScoreSections
from spinmeround.tasks.screening.inspector import train_on_previews

RING = ViewGrid(azimuths=3, elevations_deg=(0.0, 30.0))


def sections(**score: object) -> ScoreSections:
    return ScoreSections(generator=GeneratorConfig(name="procedural"), score=ScoreParams(detector="none", **score))


def previews_of(folder: Path, shade: int, grid: ViewGrid = RING) -> Path:
    """A sample artifact with previews of a cube of one grey."""
    folder.mkdir()
    cameras = grid.cameras()
    rgb = np.full((len(cameras), 64, 64, 3), 255, np.uint8)
    mask, depth = np.zeros(rgb.shape[:3], np.uint8), np.full(rgb.shape[:3], np.nan, np.float32)
    inside = (slice(None), slice(16, 48), slice(16, 48))
    rgb[inside], mask[inside], depth[inside] = shade, 255, 2.5
    write_previews(folder, Previews(rendering=Rendering(rgb=rgb, mask=mask, depth=depth), cameras=cameras))
    return folder


def test_the_inspector_is_part_of_the_key() -> None:
    """The score stage's fingerprint names the inspector, if there is one."""
    assert "inspector" in SCORE.bound(sections()).weights
    assert "inspector" not in SCORE.bound(sections(inspector="none")).weights


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A file that is no network is named."""
    path = tmp_path / "inspector.onnx"
    path.write_bytes(b"text")
    with pytest.raises(ConfigError, match=r"inspector\.onnx"):
        cached_inspector(path)


def test_the_shipped_inspector_takes_previews() -> None:
    """It says something of each view of a ring of any number of azimuths, and is small."""
    path, grid = embedded_weights("inspector"), ViewGrid(azimuths=3, elevations_deg=(0.0,))
    blank = Rendering(
        rgb=np.full((3, 64, 64, 3), 255, np.uint8),
        mask=np.zeros((3, 64, 64), np.uint8),
        depth=np.full((3, 64, 64), np.nan, np.float32),
    )
    found = cached_inspector(path).inspect(blank, grid.cameras(), 1.0)
    assert found is not None
    assert found.views.shape == (3,)
    assert found.cells.shape == (3, 16, 16)
    assert found.distances.shape == (3, 8, 8)
    assert path.stat().st_size < 3_500_000


def test_an_inspector_of_own_heads_is_written(tmp_path: Path) -> None:
    """Training on sample artifacts takes their level previews and writes a file that the score stage reads."""
    folders = [previews_of(tmp_path / str(number), 40 + number) for number in range(20)]
    params = InspectorParams(channels=(8, 8, 8), steps=2, batch=8, measured_batches=2)
    figures = train_on_previews(folders, tmp_path / "own.onnx", params, 1.0, lambda line: None)
    assert 0.0 <= figures["area of views"] <= 1.0
    assert "inspector" in SCORE.bound(sections(inspector=str(tmp_path / "own.onnx"))).weights
    cached_inspector(tmp_path / "own.onnx")


def test_heads_without_a_ring_are_refused(tmp_path: Path) -> None:
    """Too few heads and too few level previews are named with the field."""
    params, tilted = InspectorParams(steps=2), ViewGrid(azimuths=3, elevations_deg=(30.0,))
    few = [previews_of(tmp_path / "one", 40)]
    with pytest.raises(ConfigError, match=r"plan\.heads: expected 20"):
        train_on_previews(few, tmp_path / "own.onnx", params, 1.0, lambda line: None)
    folders = [previews_of(tmp_path / str(number), 40, tilted) for number in range(20)]
    with pytest.raises(ConfigError, match=r"sample\.previews: expected two"):
        train_on_previews(folders, tmp_path / "own.onnx", params, 1.0, lambda line: None)
