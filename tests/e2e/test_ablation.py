"""An ablation on a real server: trained, stopped, resumed, and shown."""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from spinmeround.flows.ablation import ablation_flow
from spinmeround.flows.cli.shared.run_flow import _ablation
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.flows.training import planned_trainings
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.ablation.params import VARIANTS
from tests.e2e.conftest import TINY
from tests.e2e.runs import counts, recorded, summary

pytestmark = pytest.mark.usefixtures("server")

SMALL = {"heads": 2, "targets": 3, "figure_heads": 1, "figure_views": 2}


@pytest.mark.slow
def test_an_ablation_resumes_and_gives_the_same_table(tiny, built: Path) -> None:
    """Stopped before the second variant, it trains what is missing; the result has all models with equal steps, a
    figure and a table, and a further run makes nothing."""
    train = {**TINY["train"], "single_view": {**TINY["train"]["single_view"], "steps": 0}}
    place, profile = Place(runs=str(built)), tiny(ablate=SMALL, train=train)

    def stopped(session, dataset, variant=None):
        if variant == "without-identity":
            raise RuntimeError("stopped here")
        return planned_trainings(session, dataset, variant)

    with (
        patch("spinmeround.flows.training.planned_trainings", stopped),
        pytest.raises(RuntimeError, match="stopped here"),
    ):
        sized(ablation_flow, profile)(profile, place)
    sized(ablation_flow, profile)(profile, place)
    resumed = summary(built / "tiny")
    assert counts(resumed)["adapt"] == (0, 4)  # it reads neither images nor normals, so it is shared
    assert counts(resumed)["multi-view"] == (2, 2)
    assert counts(resumed)["evaluate"] == (2, 2)
    result = resumed["ablation"]
    assert result["steps"] == dict.fromkeys(("model", *VARIANTS), 3)
    assert list(result["table"]["methods"]) == list(VARIANTS)
    assert result["table"]["methods"]["without-normals"]["normal_angular_error_deg"] is None
    assert "without-normals: no normals were predicted" in result["table"]["missing"]["normal_angular_error_deg"]
    folder = built / "tiny" / "ablation"
    assert json.loads((folder / "ablation.json").read_text())["table"] == result["table"]
    with Image.open(folder / "figure.png") as figure:
        assert np.asarray(figure).std() > 0
    shown = _ablation(result)
    assert "without-image" in shown["ablation"][0]
    states = recorded("ablation", 2 + 4 * 3 + 1)
    assert {states[f"{name} adapt"] for name in ("model", *VARIANTS)} == {"Cached"}

    sized(ablation_flow, profile)(profile, place)
    again = summary(built / "tiny")
    assert not any(made for made, _ in counts(again).values())
    assert again["ablation"] == result


def test_views_that_are_missing_are_named_before_anything_is_trained(tiny, built: Path) -> None:
    """Ten targets and the input of heads with four views."""
    profile = tiny(ablate={"targets": 10})
    with pytest.raises(ConfigError, match=r"ablate\.targets: expected at most 3, as .* has 4 views"):
        sized(ablation_flow, profile)(profile, Place(runs=str(built)))
    assert not list((built / "tiny" / "store").glob("adapt/*/*/manifest.json"))
