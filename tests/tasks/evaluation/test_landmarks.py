"""Landmarks of true pictures: from the generator, from the profile's detector, or missing with a reason."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.models.metrics.missing import Missing
from spinmeround.tasks.evaluation import landmarks
from spinmeround.tasks.evaluation.landmarks import TrueLandmarks
from spinmeround.tasks.heads.embed import EmbedParams

CAMERAS = orbit([0.0, 20.0, 180.0], [0.0, 0.0, 0.0])
RGB = np.full((3, 32, 32, 3), 200, np.uint8)
PROCEDURAL = {"name": "procedural", "options": {}}
PANOHEAD = {"name": "panohead", "options": {"truncation": 0.7}, "provenance": {"network": "easy-khair.pkl"}}


def find(generator: Any, embed: EmbedParams, cameras: Cameras = CAMERAS) -> Any:
    attributes = {} if generator is None else {"generator": generator}
    data: Any = SimpleNamespace(attributes=attributes, seeds=np.array([3]))
    return TrueLandmarks(data, embed)(0, cameras, RGB)


class Detector:
    """Finds the same face in every picture."""

    def largest(self, image: np.ndarray) -> Any:
        return SimpleNamespace(landmarks=np.arange(10, dtype=np.float32).reshape(5, 2))


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "detector_path", lambda embed: "pack/detector.onnx")
    monkeypatch.setattr(landmarks, "cached_detector", lambda path, params: Detector())


def test_the_generator_knows_them() -> None:
    """Projected true positions, near the middle of the frontal picture."""
    found = find(PROCEDURAL, EmbedParams())
    assert found.shape == (3, 5, 2)
    assert ((found[0] > 4) & (found[0] < 28)).all()


@pytest.mark.parametrize("generator", [None, PANOHEAD, {"name": "gone.module:make", "options": {}}])
@pytest.mark.usefixtures("detector")
def test_without_the_generator_the_detector_finds_them(generator: Any) -> None:
    """No generator, one whose checkout is elsewhere, one that is not installed; no face is looked for at the back."""
    found = find(generator, EmbedParams())
    np.testing.assert_array_equal(found[:2], np.broadcast_to(np.arange(10).reshape(5, 2), (2, 5, 2)))
    assert np.isnan(found[2]).all()


@pytest.mark.usefixtures("detector")
def test_the_profile_may_ask_for_the_detector() -> None:
    """`embed.landmarks` = "detector" ignores a generator that knows them."""
    assert find(PROCEDURAL, EmbedParams(landmarks="detector"))[0, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("generator", "embed", "reason"),
    [
        (None, EmbedParams(), "the dataset names no generator, and the profile names no detector"),
        (PANOHEAD, EmbedParams(), "the generator is not available"),
        (None, EmbedParams(landmarks="detector"), "the detector is not available"),
        (None, EmbedParams(pack="/nowhere"), "the detector is not available"),
    ],
)
def test_nothing_that_knows_them_is_a_reason(generator: Any, embed: EmbedParams, reason: str) -> None:
    """Never a crash."""
    found = find(generator, embed)
    assert isinstance(found, Missing)
    assert reason in found.reason
