"""Faces in previews: the embedded detector, landmarks from depth, and what the score stage makes of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.identity.alignment import project_landmarks
from spinmeround.models.identity.face_heatmap import HeatmapFaceFinder
from spinmeround.models.identity.faces import DetectedFace, FaceFinder
from spinmeround.models.identity.params import DetectionParams
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.heads.embed import recognition_path
from spinmeround.tasks.heads.faces import cached_finder, frontal_landmarks, seen_faces
from tests.support.packs import write_pack

RING = ViewGrid(azimuths=8, elevations_deg=(0.0,)).cameras()


class FixedFinder:
    """Finds the given number of faces in each picture it is asked about, in turn."""

    def __init__(self, counts: list[int]) -> None:
        self.counts = iter(counts)

    def find(self, image: np.ndarray) -> list[DetectedFace]:
        face = DetectedFace(
            box=np.float32([20, 20, 40, 40]),
            score=0.9,
            landmarks=np.float32([(26, 32), (38, 32), (32, 38), (28, 42), (36, 42)]),
        )
        return [face] * next(self.counts)


def previews(seed: int, resolution: int = 64, **options: object):
    generator = ProceduralGenerator(ProceduralOptions(**options))
    identity = generator.sample(seed)
    return generator.render(identity, RING, resolution), generator.landmarks(identity)


def test_the_embedded_detector_finds_the_front_and_a_face_behind() -> None:
    """A clean head has a face in front and none behind; one with a mirrored face has one behind, too."""
    finder: FaceFinder = HeatmapFaceFinder(embedded_weights("detector"))
    clean, _ = previews(5, defect_share=0.0)
    doubled, _ = previews(5, defect_share=1.0, defect_kinds=("mirrored face",), defect_strengths=(1.0, 1.0))
    found, second = (seen_faces(finder, each, RING, recognition_path("embedded")) for each in (clean, doubled))
    assert found.confidence[0] > 0.5
    assert found.count[0] == 1
    assert found.confidence[3:6].max() < 0.3
    assert second.confidence[4] > 0.5
    assert found.likeness[0] == pytest.approx(1.0, abs=1e-5)
    assert np.isnan(found.likeness[4]) or found.confidence[4] < 0.3
    assert second.likeness[4] > 0.3


@pytest.mark.parametrize("resolution", [64, 128])
def test_the_detector_places_a_face_at_any_resolution(resolution: int) -> None:
    """The centre of the found face lies within a fifth of the distance between the eyes from the true one."""
    rendering, landmarks = previews(7, resolution, defect_share=0.0)
    (face, *_) = HeatmapFaceFinder(embedded_weights("detector")).find(rendering.rgb[0])
    true = project_landmarks(RING[[0]], landmarks, resolution)[0]
    centre = 0.5 * (true[:2].mean(axis=0) + true[3:].mean(axis=0))
    assert np.linalg.norm(face.landmarks[[0, 1, 3, 4]].mean(axis=0) - centre) < 0.3 * np.linalg.norm(true[0] - true[1])


def test_likeness_needs_a_frontal_face_and_a_network() -> None:
    """Without a face in front or a recognition network, the likeness of all views is unknown."""
    rendering, _ = previews(5, defect_share=0.0)
    blind = seen_faces(FixedFinder([0, 1, 1, 1, 1, 1, 1, 1]), rendering, RING, recognition_path("embedded"))
    assert np.isnan(blind.likeness).all()
    assert np.isnan(seen_faces(FixedFinder([1] * 8), rendering, RING, None).likeness).all()
    assert seen_faces(FixedFinder([3, *[0] * 7]), rendering, RING, None).count[0] == 3


def test_landmarks_in_the_picture_become_points_of_the_surface() -> None:
    """A pixel and its depth give the world point that projects back to the pixel; beside the head there is none."""
    rendering, _ = previews(5, defect_share=0.0)
    found = frontal_landmarks(FixedFinder([1]), rendering, RING)
    assert found is not None
    back = project_landmarks(RING[[0]], found, 64)[0]
    np.testing.assert_allclose(back, [(26, 32), (38, 32), (32, 38), (28, 42), (36, 42)], atol=1e-3)
    rendering.depth[0] = np.nan
    assert frontal_landmarks(FixedFinder([1]), rendering, RING) is None
    assert frontal_landmarks(FixedFinder([0]), rendering, RING) is None


def test_another_network_is_refused() -> None:
    """A recognition network in place of the detector is named, with what was expected."""
    with pytest.raises(ValueError, match=r"face detector: expected input \[n, 3, 64, 64\]"):
        HeatmapFaceFinder(recognition_path("embedded"))


def test_the_detector_of_a_pack_finds_faces_by_the_same_interface(tmp_path: Path) -> None:
    """The detector of an InsightFace pack returns a list, sorted by score."""
    pack = write_pack(tmp_path / "pack")
    finder = cached_finder(pack / "scrfd_10g_bnkps.onnx", False, DetectionParams(side=64, threshold=0.01))
    found = finder.find(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    assert [face.score for face in found] == sorted((face.score for face in found), reverse=True)
    assert all(face.landmarks.shape == (5, 2) for face in found)


def test_the_card_states_what_the_detector_reaches() -> None:
    """The shipped detector finds at least 95 of 100 held-out faces and invents at most 3 in 100 backs."""
    path = embedded_weights("detector")
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["measured_on_unseen_heads"]
    assert card["found"] >= 0.95
    assert card["false"] <= 0.03
    assert path.stat().st_size < 1_000_000
