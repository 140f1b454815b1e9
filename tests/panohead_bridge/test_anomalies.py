"""Random defects of no particular kind."""

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.anomalies import CHANGES, SHARES, Anomaly, Change
from spinmeround.panohead_bridge.procedural.options import ANOMALY, Defect, random_of
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import in_chunks
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode

MEAN = decode(np.zeros(LATENT_SIZE))


def near_surface(scene: Scene) -> np.ndarray:
    """Points within a few hundredths of a head's surface."""
    points = np.random.default_rng(0).uniform(-0.45, 0.45, (40000, 3)).astype(np.float32)
    return points[np.abs(in_chunks(scene.distance, points)) < 0.03]


def test_shares_are_those_of_the_changes():
    """Every change has a share, and shares add up to one."""
    assert len(SHARES) == len(CHANGES)
    assert sum(SHARES) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", CHANGES, ids=lambda kind: kind.__name__)
def test_every_change_does_something(kind: type[Change], monkeypatch: pytest.MonkeyPatch):
    """Within ten seeds, each kind of change moves the surface or its colour somewhere near it, and not everywhere."""
    clean = Scene.of(MEAN, (), seed=1)
    points = near_surface(clean)
    before = in_chunks(clean.shade, points)

    def only(defect: Defect, rng: np.random.Generator, distance: object) -> Anomaly:
        anomaly = Anomaly.__new__(Anomaly)
        anomaly.adopt([kind(rng, defect.strength, distance)])
        return anomaly

    monkeypatch.setattr("spinmeround.panohead_bridge.procedural.scene.Anomaly", only)
    shares = []
    for seed in range(10):
        scene = Scene.of(MEAN, [Defect(kind=ANOMALY, strength=0.9)], seed)
        after = in_chunks(scene.shade, points)
        moved = np.sign(before[0]) != np.sign(after[0])
        recoloured = np.abs(before[1:] - after[1:]).max(axis=0) > 0.05
        shares.append(float((moved | recoloured).mean()))
    assert max(shares) > 0.002
    assert np.median(shares) < 0.6


def test_anomalies_leave_the_identity_alone():
    """The share of anomalies decides only whether a head has one; kinds, strengths and latents of others stay."""
    plain, changed = (ProceduralGenerator(ProceduralOptions(anomaly_share=share)) for share in (0.0, 1.0))
    for seed in range(40):
        np.testing.assert_array_equal(plain.sample(seed).latent, changed.sample(seed).latent)
        found = changed.defects(changed.sample(seed))
        assert found[-1].kind == ANOMALY
        assert found[:-1] == plain.defects(plain.sample(seed))


def test_heads_without_anomalies_keep_their_fingerprint():
    """Artifacts of generators without anomalies stay valid; with them the fingerprint is another."""
    plain, none, some = (
        ProceduralOptions(**given) for given in ({}, {"anomaly_share": 0.0}, {"anomaly_share": 0.2})
    )
    assert plain.fingerprint() == none.fingerprint() != some.fingerprint()


def test_the_picture_of_an_anomaly_is_deterministic():
    """Two generators render the same bytes, and they differ from those of the clean head."""
    cameras = ViewGrid(azimuths=2, elevations_deg=(0.0,)).cameras()
    options = ProceduralOptions(defect_share=0.0, anomaly_share=1.0)
    first, second = (ProceduralGenerator(options) for _ in range(2))
    clean = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    identity = first.sample(60_000_000)
    shown = first.render(identity, cameras, 32)
    assert np.array_equal(shown.rgb, second.render(identity, cameras, 32).rgb)
    assert not np.array_equal(shown.rgb, clean.render(identity, cameras, 32).rgb)


def test_a_colour_from_elsewhere_keeps_the_shape():
    """Where an anomaly only paints, the distance is the clean head's."""
    clean = Scene.of(MEAN, (), seed=1)
    points = near_surface(clean)
    rng = random_of(3, "test")
    painting = next(kind for kind in CHANGES if kind.__name__ == "Colouring")(rng, 0.9, clean.distance)
    anomaly = Anomaly.__new__(Anomaly)
    anomaly.adopt([painting])
    assert [len(anomaly.sources(each)) for each in (_points(points),)] == [1]
    assert not anomaly.warps


def _points(points: np.ndarray):
    import torch

    from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points

    return Points(*torch.from_numpy(points.T.copy()))
