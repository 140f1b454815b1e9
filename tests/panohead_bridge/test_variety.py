"""Pose, expression, hair, earrings and headwear: they are what their traits say, and grow from nothing."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from spinmeround.panohead_bridge.procedural.anatomy.accessories import lobe
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Triple
from spinmeround.panohead_bridge.procedural.anatomy.regions import LABELS
from spinmeround.panohead_bridge.procedural.description import describe
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import in_chunks
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode

MEAN = replace(decode(np.zeros(LATENT_SIZE)), earring_side=0.0, beard=0.0, glasses=0.0, baldness=0.0)


def _head(**changes: float) -> Scene:
    return Scene.of(replace(MEAN, **changes), (), seed=0)


def _label(scene: Scene, local: Triple, outward: Triple) -> str:
    """The label of the surface that a ray along an axis of the head's frame meets first."""
    ray = np.array(
        [scene.head.pose.world(tuple(np.add(local, np.multiply(s, outward)))) for s in np.arange(0.2, 0, -5e-4)]
    )
    points = ray.astype(np.float32)
    first = int(np.argmax(in_chunks(scene.distance, points) < 0.0))
    return LABELS[in_chunks(scene.labels, points[[first]])[0]]


@pytest.mark.parametrize("pose", [(9.0, 0.0, 0.0), (-6.0, 7.0, 0.0), (3.0, -5.0, 5.0)], ids=str)
def test_landmarks_turn_with_the_head(pose):
    """The line of the eyes has the tilt's angle in the frontal picture; yaw turns the face right, pitch lowers it."""
    tilt, yaw, pitch = pose
    places = _head(tilt_deg=tilt, yaw_deg=yaw, pitch_deg=pitch).places()
    eyes = np.subtract(places["right eye"], places["left eye"])
    assert math.degrees(math.atan2(eyes[1], eyes[0])) == pytest.approx(tilt, abs=0.2)
    upright = _head(tilt_deg=0.0, yaw_deg=0.0, pitch_deg=0.0).places()
    moved = np.subtract(places["nose tip"], upright["nose tip"])
    if yaw and not pitch:
        assert moved[0] * yaw > 0.0
    if pitch > 0.0:
        assert moved[1] < 0.0


def test_shoulders_stay_upright():
    """A tilted head keeps its garment where it is: below the neck the solid is the same."""
    points = np.random.default_rng(0).uniform((-0.3, -0.45, -0.2), (0.3, -0.38, 0.1), (3000, 3)).astype(np.float32)
    upright, tilted = (in_chunks(_head(tilt_deg=t, hair_length=0.0).distance, points) for t in (0.0, 10.0))
    np.testing.assert_allclose(upright, tilted, atol=1e-5)


def test_offset_moves_everything():
    """The offset of a head in its frame moves all landmarks by itself."""
    start, moved = (np.array(list(_head(offset_x=x, offset_y=-x).places().values())) for x in (0.0, 0.01))
    np.testing.assert_allclose(moved - start, np.tile([0.01, -0.01, 0.0], (len(start), 1)), atol=2e-4)


@pytest.mark.parametrize(
    ("changes", "place", "outward", "expected"),
    [
        ({"headwear": 0.0}, (0.0, 0.07, -0.02), (0.0, 1.0, 0.0), "hair"),
        ({"headwear": 1.0}, (0.0, 0.07, -0.02), (0.0, 1.0, 0.0), "headwear"),
        ({"headwear": -1.0}, (0.0, -0.12, -0.04), (0.0, 0.0, -1.0), "headwear"),
        ({"headwear": 1.0}, (0.0, -0.16, -0.04), (0.0, 0.0, -1.0), "skin"),
        ({"headwear": -1.0}, (0.03, -0.06, 0.1), (0.0, 0.0, 1.0), "skin"),
        ({"mouth_open": 1.0}, "mouth", (0.0, 0.0, 1.0), "mouth"),
        ({"mouth_open": 0.0}, "mouth", (0.0, 0.0, 1.0), "lips"),
    ],
    ids=["hair", "hat", "scarf at the neck", "neck under a hat", "face in a scarf", "open mouth", "closed mouth"],
)
def test_labels_name_what_a_head_wears(changes, place, outward, expected):
    """Cloth covers the crown, a full scarf the neck too and never the face; an open mouth shows its inside."""
    scene = _head(hair_length=0.0, **changes)
    if place == "mouth":
        place = (0.0, scene.head.anatomy.mouth[1] - 0.008, 0.09)
    assert _label(scene, place, outward) == expected


@pytest.mark.parametrize(("side", "ears"), [(-1.0, (True, False)), (0.0, (True, True)), (1.0, (False, True))])
def test_earrings_hang_at_one_ear_or_at_both(side, ears):
    """An earring is part of the head at the lobe of each ear that has one."""
    scene = _head(earrings=1.0, earring_side=side, earring_shape=0.0)
    x, y, z = lobe(scene.head.traits, scene.head.anatomy)
    lobes = np.array([scene.head.pose.world(place) for place in ((-x, y, z), (x, y, z))], np.float32)
    worn = in_chunks(scene.parts, lobes)[LABELS.index("earring")] < 0.0
    assert tuple(worn) == ears
    assert describe(scene.head.traits)["earrings"] == sum(ears)


@pytest.mark.parametrize(
    ("name", "worn", "ends"),
    [
        ("headwear", {}, (0.2, 1.0)),
        ("headwear", {}, (-0.2, -1.0)),
        ("hat_style", {"headwear": 1.0}, (0.2, 0.9)),
        ("mouth_open", {}, (0.4, 1.0)),
        ("earrings", {"hair_length": 0.0}, (0.4, 1.0)),
        ("tied", {"hair_length": 1.0}, (0.3, 1.0)),
        ("tie_side", {"tied": 1.0}, (-1.0, 1.0)),
    ],
    ids=["hat", "scarf", "brim", "mouth", "earrings", "tail", "bun"],
)
def test_features_grow_from_nothing(name: str, worn: dict[str, float], ends: tuple[float, float]):
    """The fastest change of the surface along a trait is no jump: it falls with the step, to below a hundredth."""
    rng, ear = np.random.default_rng(1), _head(hair_length=0.0).places()["right ear"]
    places = np.concatenate([rng.uniform(-0.28, 0.28, (1500, 3)), rng.normal(ear, 0.03, (800, 3))]).astype(np.float32)

    def distances(value: float) -> np.ndarray:
        return in_chunks(_head(**worn, **{name: value}).distance, places)

    def moved(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.abs(one - other)[np.minimum(np.abs(one), np.abs(other)) < 0.02].max(initial=0.0))

    values = np.linspace(*ends, 9).tolist()
    found = [distances(value) for value in values]
    start = int(np.argmax([moved(*pair) for pair in pairwise(found)]))
    (low, one), (high, other) = ((values[i], found[i]) for i in (start, start + 1))
    assert moved(one, other) > 1e-3
    for _ in range(6):
        middle = 0.5 * (low + high)
        between = distances(middle)
        if moved(one, between) > moved(between, other):
            high, other = middle, between
        else:
            low, one = middle, between
    assert moved(one, other) < 0.01


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"headwear": 1.0, "hat_style": 0.0}, "hat", "knitted"),
        ({"headwear": 1.0, "hat_style": 0.5}, "hat", "cap"),
        ({"headwear": 1.0, "hat_style": 1.0}, "hat", "brimmed"),
        ({"headwear": 0.0}, "hat", "none"),
        ({"headwear": -1.0}, "headscarf", True),
        ({"tied": 1.0, "hair_length": 0.0}, "bun", True),
        ({"tied": 1.0, "hair_length": 1.0}, "tail", True),
        ({"baldness": 1.0}, "hair", "bald"),
        ({"hair_length": 1.0}, "hair", "long"),
        ({"skin_melanin": 1.0}, "skin_tone", "dark"),
        ({"mouth_open": 1.0}, "mouth_open", True),
        ({"beard": 1.0}, "beard", True),
        ({"glasses": 1.0}, "glasses", True),
        ({"smile": 9.0}, "expression", "smile"),
        ({"smile": -5.0}, "expression", "frown"),
        ({"tilt_deg": 7.5}, "tilt_deg", 7.5),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_descriptions_name_the_traits(changes: dict[str, float], name: str, expected: object):
    """The description of a head names what its traits make it wear, show and do."""
    assert describe(replace(MEAN, tied=changes.pop("tied", 0.0), **changes))[name] == expected


def test_descriptions_belong_to_identities(generator):
    """The generator describes an identity by the traits of its latent, and all heads have the same names."""
    first, second = (generator.traits(generator.sample(seed)) for seed in (1, 2))
    assert first.keys() == second.keys()
    assert first == describe(decode(generator.sample(1).latent))
