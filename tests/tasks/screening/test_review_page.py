"""The review page as a file: what it says of the heads, and that it needs nothing but itself."""

import json
import re

import numpy as np

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.tasks.heads.screen import ScreenLimits, Verdict
from spinmeround.tasks.pictures.webp import embedded
from spinmeround.tasks.screening.decisions import Decisions, GeneratorId
from spinmeround.tasks.screening.review_page import ReviewPage, limits_of, page_data, render_review, strip, strip_shape
from tests.tasks.report.synthetic import views

VERDICTS = {
    "tiny-000000": Verdict(keep=True, reasons=(), scores={"holes": 0.0, "ratio": 1.2}),
    "tiny-000001": Verdict(keep=False, reasons=("holes",), scores={"holes": 0.25, "ratio": float("nan")}),
}


def page(**changes) -> ReviewPage:
    """A page of two heads."""
    values = {
        "run": "demo",
        "memory": "0123",
        "verdicts": VERDICTS,
        "decisions": Decisions(generator=GeneratorId(name="tiny", fingerprint="tiny-1")),
        "strips": dict.fromkeys(VERDICTS, embedded(b"RIFF")),
        "shape": (64, 16),
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
    np.savez(folder / "preview.npz", rgb=rgb, mask=mask, azimuth=cameras.azimuth_deg, elevation=cameras.elevation_deg)


def test_script_gets_finite_numbers_and_limits():
    """A score that is no number is null, since JSON has no word for it; scores stand in one order for all heads."""
    data = page_data(page())
    assert [score["limit"] for score in data["scores"]] == [(None, 0.1), (1.0, 1.5)]
    assert [head["scores"] for head in data["heads"]] == [[0.0, 1.2], [0.25, None]]
    json.dumps(data, allow_nan=False)


def test_page_of_its_own_needs_nothing_else():
    """Pictures are inside and the page's policy forbids the network; the served one may ask its own server alone."""
    alone, served = render_review(page()), render_review(page(served=True))
    assert "connect-src 'none'" in alone
    assert not re.search(r"https?://|@import|url\(", alone)
    assert "connect-src 'self'" in served


def test_text_cannot_become_markup():
    """Names and notes are text, also inside the script's data."""
    evil = "</script><script>alert('x')</script>"
    hurt = page(run=evil, command=evil, verdicts={evil: VERDICTS["tiny-000000"]}, strips={evil: evil})
    assert "<script>alert" not in render_review(hurt)


def test_strip_is_all_previews_in_one_small_picture(tmp_path):
    """Side by side, at most 128 px each, a few KB: a thousand heads are some MB."""
    from io import BytesIO

    from PIL import Image

    for resolution, side in ((64, 64), (256, 128)):
        write_preview(tmp_path, resolution)
        picture = Image.open(BytesIO(strip(tmp_path)))
        assert picture.size == strip_shape(tmp_path) == (8 * side, side)
        assert len(strip(tmp_path)) < 20_000


def test_limits_say_which_side_passes():
    """A score that is bad above its limit has a largest value, one that is bad below it a least; no limit is none."""
    limits = limits_of(ScreenLimits(clipped_volume=0.1, crown_height=0.3))
    assert limits == {"clipped_volume": (None, 0.1), "crown_height": (0.3, None)}
