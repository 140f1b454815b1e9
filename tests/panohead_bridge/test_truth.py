"""Ground truth of the procedural generator in addition to pictures: per-pixel labels and landmarks."""

import numpy as np
import pytest
import torch

from spinmeround.models.geometry.cameras import orbit, project
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points
from spinmeround.panohead_bridge.procedural.anatomy.regions import BACKGROUND, LABELS
from spinmeround.panohead_bridge.protocol import FIVE_LANDMARKS

SIDE = 96


def _pixels(places: np.ndarray, cameras) -> np.ndarray:
    """(row, column) of world points in the first view."""
    return np.floor(project(cameras, places)[0][0] * SIDE).astype(int)[:, ::-1]


@pytest.fixture(scope="module")
def views():
    return orbit([0.0, 180.0], [0.0, 0.0])


@pytest.fixture(scope="module")
def labels(generator, identity, views) -> np.ndarray:
    return generator.render_labels(identity, views, SIDE)


def test_labels_and_depth_cover_the_same_pixels(generator, identity, cameras, rendering):
    """A pixel has a label exactly where it has a depth; all other pixels are background."""
    labels = generator.render_labels(identity, cameras, 48)
    np.testing.assert_array_equal(labels != BACKGROUND, np.isfinite(rendering.depth))
    assert set(np.unique(labels)) <= {BACKGROUND, *range(len(LABELS))}


def test_labels_show_the_face(generator, identity, views, labels):
    """Labels agree with the landmarks and are about symmetric; the back view shows no face."""
    marks = generator.named_landmarks(identity)
    expected = {"left eye": "eye", "right eye": "eye", "nose tip": "skin", "lower lip": "lips", "right brow": "brows"}
    rows, columns = _pixels(np.stack([marks[name] for name in expected]), views).T
    assert [LABELS[label] for label in labels[0, rows, columns]] == list(expected.values())
    eyes = np.argwhere(labels[0] == LABELS.index("eye"))[:, 1]
    middle = _pixels(marks["nose tip"][None], views)[0, 1]
    assert 0.7 < (eyes < middle).sum() / (eyes > middle).sum() < 1.4
    assert not np.isin(labels[1], [LABELS.index(name) for name in ("eye", "lips", "brows")]).any()
    assert (labels[1] == LABELS.index("hair")).mean() > 0.1


def test_beards_and_glasses_are_labelled(generator):
    """A beard or glasses are labelled exactly on the head that has them."""
    shown = {}
    for seed in (1, 14):  # a beard without glasses; glasses without a beard
        found = generator.render_labels(generator.sample(seed), orbit([0.0], [0.0]), SIDE)
        shown[seed] = {LABELS[label] for label in np.unique(found[found >= 0])}
    assert {"beard"} == shown[1] & {"beard", "glasses"}
    assert {"glasses"} == shown[14] & {"beard", "glasses"}


@pytest.mark.parametrize("seed", [0, 7, 12, 31])
def test_named_landmarks_are_on_the_surface_in_anatomical_order(generator, seed):
    """Landmarks lie on the surface, include the five, and, in the head's own frame, mirror in pairs and are ordered
    from crown to chin and ear to ear."""
    identity = generator.sample(seed)
    marks = generator.named_landmarks(identity)
    places = np.stack(list(marks.values()))
    assert np.abs(generator.signed_distance(identity, places)).max() < 1e-4
    np.testing.assert_array_equal(np.stack([marks[n] for n in FIVE_LANDMARKS]), generator.landmarks(identity))
    local = generator._heads.scene(identity).head.local(Points(*torch.from_numpy(places.T)))
    marks = dict(zip(marks, torch.stack(local, dim=1).numpy(), strict=True))
    heights = [marks[n][1] for n in ("crown", "forehead", "right brow", "right eye", "nose tip", "upper lip", "chin")]
    assert heights == sorted(heights, reverse=True)
    across = [marks[n][0] for n in ("left ear", "left eye", "nose tip", "right eye", "right ear")]
    assert across == sorted(across)
    assert marks["occiput"][2] < -0.1 < marks["crown"][2] < marks["chin"][2] < marks["nose tip"][2]
    for name in ("eye", "cheek", "ear"):
        np.testing.assert_allclose(marks[f"left {name}"][1], marks[f"right {name}"][1], atol=1e-5)
        np.testing.assert_allclose(marks[f"left {name}"][0], -marks[f"right {name}"][0], atol=0.02)


def test_landmarks_follow_a_shifted_head_and_are_nan_where_it_is_clipped():
    """A head that the cube clips keeps the landmarks inside the cube; the others are rows of NaN."""
    options = ProceduralOptions(defect_share=1.0, defect_kinds=("clipped volume",), defect_softness=(0.0, 0.0))
    generator, clean = ProceduralGenerator(options), ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    seen: dict[bool, int] = {True: 0, False: 0}
    for seed in range(5):
        identity = generator.sample(seed)
        marks = generator.named_landmarks(identity)
        places = np.stack(list(marks.values()))
        inside = np.isfinite(places).all(axis=1)
        assert np.abs(generator.signed_distance(identity, places[inside])).max() < 1e-4
        moved = places[inside] - np.stack(list(clean.named_landmarks(identity).values()))[inside]
        np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape), atol=1e-4)
        for found in inside:
            seen[bool(found)] += 1
    assert min(seen.values()) >= 3
