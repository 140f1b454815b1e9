"""The review page: its data, and that it loads no external resources."""

import json
import re

import numpy as np

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.records import Rendering
from spinmeround.tasks.heads.sample_files import Previews, write_previews
from spinmeround.tasks.heads.screen import ScreenLimits, Verdict
from spinmeround.tasks.pictures.webp import webp_uri
from spinmeround.tasks.screening.decisions import Decisions, GeneratorId
from spinmeround.tasks.screening.explanation import EVIDENCE, heated, map_strip
from spinmeround.tasks.screening.review_page import (
    ReviewPage,
    limits_of,
    page_data,
    preview_strip,
    preview_strip_size,
    render_review,
)
from tests.tasks.report.synthetic import views

VERDICTS = {
    "tiny-000000": Verdict(keep=True, reasons=(), scores={"holes": 0.0, "ratio": 1.2}),
    "tiny-000001": Verdict(keep=False, reasons=("holes",), scores={"holes": 0.25, "ratio": float("nan")}),
}


def page(**changes) -> ReviewPage:
    """A page of two heads."""
    values = {
        "run": "demo",
        "storage_key": "0123",
        "verdicts": VERDICTS,
        "decisions": Decisions(generator=GeneratorId(name="tiny", fingerprint="tiny-1")),
        "strips": dict.fromkeys(VERDICTS, webp_uri(b"RIFF")),
        "maps": {},
        "strip_size": (64, 16),
        "limits": {"holes": (None, 0.1), "ratio": (1.0, 1.5)},
        "digest": "abc",
        "command": "spinmeround build",
        "unscreened": 0,
        "served": False,
    }
    return ReviewPage(**(values | changes))


def write_preview(folder, resolution: int) -> None:
    cameras = ViewGrid(azimuths=8, elevations_deg=(0.0,)).cameras()
    rgb, mask, _ = views(3, cameras, resolution)
    rendering = Rendering(rgb=rgb, mask=mask, depth=np.ones(mask.shape, np.float32))
    write_previews(folder, Previews(rendering=rendering, cameras=cameras))


def test_script_data_has_finite_numbers_and_limits():
    """NaN becomes null, since JSON has no NaN; all heads have their scores in the same order."""
    data = page_data(page())
    assert [score["limit"] for score in data["scores"]] == [(None, 0.1), (1.0, 1.5)]
    assert [head["scores"] for head in data["heads"]] == [[0.0, 1.2], [0.25, None]]
    json.dumps(data, allow_nan=False)


def test_page_loads_nothing_external():
    """A standalone page forbids the network by its security policy; a served one allows only its own server."""
    standalone, served = render_review(page()), render_review(page(served=True))
    assert "connect-src 'none'" in standalone
    assert not re.search(r"https?://|@import|url\(", standalone)
    assert "connect-src 'self'" in served


def test_text_cannot_become_markup():
    """Names and commands are escaped, also in the script's data."""
    evil = "</script><script>alert('x')</script>"
    hurt = page(run=evil, command=evil, verdicts={evil: VERDICTS["tiny-000000"]}, strips={evil: evil})
    assert "<script>alert" not in render_review(hurt)


def test_strip_has_all_previews_in_one_small_picture(tmp_path):
    """Previews are side by side, at most 128 px each; a strip takes less than 20 kB."""
    from io import BytesIO

    from PIL import Image

    for resolution, side in ((64, 64), (256, 128)):
        write_preview(tmp_path, resolution)
        picture = Image.open(BytesIO(preview_strip(tmp_path)))
        assert picture.size == preview_strip_size(tmp_path) == (8 * side, side)
        assert len(preview_strip(tmp_path)) < 20_000


def test_limits_are_minima_or_maxima():
    """A score that is bad above its limit has a maximum, one that is bad below it has a minimum."""
    limits = limits_of(ScreenLimits(clipped_volume=0.1, crown_height=0.3))
    assert limits == {"clipped_volume": (None, 0.1), "crown_height": (0.3, None)}


def test_a_learned_verdict_shows_its_evidence():
    """The probability is the first score, with the threshold as its limit; each score has its log-odds."""
    verdict = Verdict(keep=False, reasons=("holes",), scores={"holes": 0.3}, probability=0.9, evidence={"holes": 4.0})
    maps = {"tiny-000000": {"holes": "maps/0/holes/tiny-000000.webp"}}
    shown = page(verdicts={"tiny-000000": verdict}, limits={"probability": (None, 0.6)}, maps=maps)
    data = page_data(shown)
    assert [score["name"] for score in data["scores"]] == ["probability", "holes"]
    assert data["scores"][0]["limit"] == (None, 0.6)
    (head,) = data["heads"]
    assert (head["scores"], head["evidence"], head["maps"]) == ([0.9, 0.3], [None, 4.0], maps["tiny-000000"])


def test_a_map_turns_previews_red_where_the_evidence_lies(tmp_path):
    """Full evidence has the heat's colour, none leaves a pale grey; a head without the map has no strip."""
    write_preview(tmp_path, 16)
    strengths = np.zeros((8, 16, 16), np.uint8)
    strengths[:, :, 8:] = 255
    rgb = heated(np.full((8, 16, 16, 3), (10, 200, 90), np.uint8), strengths)
    assert np.unique(rgb[..., :8, :].reshape(-1, 3), axis=0).tolist() == [[201, 201, 201]]
    assert np.unique(rgb[..., 8:, :].reshape(-1, 3), axis=0).tolist() == [[220, 30, 30]]
    assert map_strip(tmp_path, tmp_path, "mirror") is None
    np.savez(tmp_path / EVIDENCE, **{"map.mirror": strengths})
    assert map_strip(tmp_path, tmp_path, "mirror")[:4] == b"RIFF"
    assert map_strip(tmp_path, tmp_path, "bumps") is None
