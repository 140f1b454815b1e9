"""Contact sheets of what the stages of a build have made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.storage.artifacts import ArtifactStore, artifact_key
from spinmeround.storage.dataset import write_pictures
from spinmeround.storage.records import Rendering
from spinmeround.tasks.heads.render import RenderParams
from spinmeround.tasks.heads.sample_files import Previews, write_previews
from spinmeround.tasks.overview.stage_sheet import HEADS, SIDE, stage_sheet
from spinmeround.tasks.stage import Head

pytestmark = pytest.mark.fast
GRID = ViewGrid(azimuths=4, elevations_deg=(-30.0, 0.0))
COLOURS = np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)], np.uint8)
"""By azimuth: front, left, back, right."""


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def pictures() -> np.ndarray:
    """Views of one colour by azimuth at elevation 0, and white ones at the other elevation."""
    rings = [np.full((4, 3), 255, np.uint8), COLOURS]
    return np.concatenate(rings)[:, None, None, :].repeat(16, 1).repeat(16, 2)


def put(store: ArtifactStore, stage: str, head: Head, fill: Callable[[Path], None]) -> None:
    """An artifact of a head with what `fill` writes."""
    with store.commit(
        stage, key(stage, head), version=1, params={"seed": head.seed}, inputs={}, weights="", subject=head.id
    ) as out:
        fill(out)


def key(stage: str, head: Head) -> str:
    return artifact_key(stage, 1, {"seed": head.seed}, {})


def keys(heads: list[Head]) -> dict[str, dict[str, str]]:
    return {head.id: {stage: key(stage, head) for stage in ("sample", "screen", "render", "mesh")} for head in heads}


def captions(heads: list[Head]) -> dict[str, str]:
    return {head.id: head.id for head in heads}


def preview(folder: Path) -> None:
    ring: Cameras = GRID.cameras()
    rgb = pictures()
    flat = np.zeros(rgb.shape[:3], np.float32)
    write_previews(folder, Previews(rendering=Rendering(rgb=rgb, mask=rgb[..., 0], depth=flat), cameras=ring))


def test_the_views_of_a_head_go_round_it(store: ArtifactStore) -> None:
    """Front, left, back, right at elevation 0, of as many heads as fit; heads without the artifact are left out."""
    heads = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(2 * HEADS + 2)]
    codec = RenderParams(resolution=16).codec
    for head in heads[:-1]:
        put(
            store,
            "render",
            head,
            lambda out: write_pictures(out, "tiny", codec, rgb=pictures(), mask=pictures()[..., 0]),
        )
    sheet = stage_sheet(store, "render", heads, keys(heads), GRID.cameras(), captions(heads))
    assert sheet is not None
    picture = np.asarray(sheet)
    front = (picture[:, 12 + SIDE // 2] == COLOURS[0]).all(-1)
    starts = np.flatnonzero(np.diff(front.astype(int), prepend=0) == 1)
    assert len(starts) == 3  # every third of 17 heads, two in a row
    middle = picture[starts[0] + SIDE // 2]
    assert [tuple(middle[12 + SIDE * at + SIDE // 2]) for at in range(4)] == [tuple(colour) for colour in COLOURS]


def test_the_screen_shows_previews_with_reasons(store: ArtifactStore) -> None:
    """One head fills one column, two fill two; a caption of two lines makes the sheet higher."""
    heads = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(2)]
    for head in heads:
        put(store, "sample", head, preview)
        put(store, "screen", head, lambda out: (out / "verdict.json").touch())
    reasons = {heads[0].id: f"{heads[0].id}\nfloaters"}
    screen = stage_sheet(store, "screen", heads[:1], keys(heads), GRID.cameras(), reasons)
    sample = stage_sheet(store, "sample", heads, keys(heads), GRID.cameras(), captions(heads))
    assert screen is not None
    assert sample is not None
    assert (screen.width, sample.width) == (4 * SIDE + 24, 2 * (4 * SIDE + 12) + 12)
    assert screen.height > sample.height


def test_stages_without_pictures(store: ArtifactStore) -> None:
    """A mesh has none, and neither has a stage of which nothing is made."""
    heads = [Head(id="tiny-000000", seed=0)]
    assert stage_sheet(store, "mesh", heads, keys(heads), GRID.cameras(), captions(heads)) is None
    assert stage_sheet(store, "render", heads, keys(heads), GRID.cameras(), captions(heads)) is None
