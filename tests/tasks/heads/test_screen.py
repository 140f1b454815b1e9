"""A score beyond its limit drops a head, and a missing score does not."""

import pytest
from pydantic import ValidationError

from spinmeround.models.screening.scores import SCORES
from spinmeround.tasks.heads.screen import SCREEN, ScreenLimits, ScreenParams, ScreenSections, screen
from spinmeround.tasks.stage import Head


def limits(**values):
    return ScreenParams(limits=ScreenLimits(**values))


def test_every_score_has_a_limit():
    assert tuple(ScreenLimits.model_fields) == tuple(score.name for score in SCORES)


@pytest.mark.parametrize(
    ("value", "keep"), [(0.1, True), (0.100001, False), (None, True), (0.0, True)], ids=["at", "over", "none", "under"]
)
def test_head_at_a_limit_is_kept(value, keep):
    verdict = screen({"stray_volume": value}, limits(stray_volume=0.1))
    assert verdict.keep is keep
    assert verdict.reasons == (() if keep else ("stray_volume",))


def test_some_limits_are_minima():
    assert screen({"crown_height": 0.1}, limits(crown_height=0.2)).reasons == ("crown_height",)
    assert screen({"crown_height": 0.3}, limits(crown_height=0.2)).keep


def test_reasons_are_in_the_order_of_the_scores():
    scores = {"colour_seam": 1.0, "stray_volume": 1.0, "back_depth": 0.0, "asymmetry": 0.0}
    found = screen(scores, limits(colour_seam=0.5, stray_volume=0.5, back_depth=0.1, asymmetry=0.1))
    assert found.reasons == ("stray_volume", "back_depth", "colour_seam")
    assert found.scores == scores


def test_without_limits_everything_is_kept():
    assert screen({score.name: 1e9 for score in SCORES if score.bad == "above"}, ScreenParams()).keep


def test_an_unknown_score_is_rejected():
    with pytest.raises(ValidationError, match="nose_length"):
        ScreenLimits(nose_length=1.0)


def test_the_source_of_the_limits_enters_no_key():
    """Verdicts depend on the limits, so rewording their source remakes nothing; other limits do."""
    sections = (ScreenParams(), ScreenParams(origin="reworded"), limits(stray_volume=0.1))
    head, inputs = Head(id="tiny-000000", seed=0), {"score": "0" * 64}
    keys = [SCREEN.key(head, ScreenSections(screen=screen), inputs) for screen in sections]
    assert keys[0] == keys[1] != keys[2]
