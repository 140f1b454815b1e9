import numpy as np
import pytest
import torch
from scipy.ndimage import label

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points
from spinmeround.panohead_bridge.procedural.defects import KINDS, LAYERS, Damage
from spinmeround.panohead_bridge.procedural.generator import interpolate
from spinmeround.panohead_bridge.procedural.options import DEFECT_KINDS, Defect
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import in_chunks
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode


def _scene(*kinds: str, strength: float = 0.8, softness: float = 0.0) -> Scene:
    """The mean head with these defects."""
    defects = [Defect(kind=kind, strength=strength, softness=softness) for kind in kinds]
    return Scene.of(decode(np.zeros(LATENT_SIZE)), defects, seed=1)


def test_every_kind_is_implemented():
    """The kinds in the options equal the implemented kinds, in drawing order, and each has a layer."""
    assert tuple(KINDS) == DEFECT_KINDS
    assert sorted(LAYERS) == sorted(DEFECT_KINDS)


def test_share_of_defects_is_as_requested():
    """Shares 0, 1 and 0.3 give defects to no head, every head and about 30% of heads; every kind occurs."""
    generators = {share: ProceduralGenerator(ProceduralOptions(defect_share=share)) for share in (0.0, 0.3, 1.0)}
    found = {share: [g.defect(g.sample(s)) for s in range(600)] for share, g in generators.items()}
    assert not any(found[0.0])
    assert all(found[1.0])
    assert 0.24 < np.mean([d is not None for d in found[0.3]]) < 0.36
    assert {d.kind for d in found[1.0]} == set(KINDS)


def test_share_does_not_change_heads():
    """The share decides only whether a seed has a defect, never its latent or the defect's kind and strength."""
    low, high = (ProceduralGenerator(ProceduralOptions(defect_share=share)) for share in (0.3, 1.0))
    for seed in range(60):
        np.testing.assert_array_equal(low.sample(seed).latent, high.sample(seed).latent)
        assert low.defect(low.sample(seed)) in (None, high.defect(high.sample(seed)))


def test_excluded_kinds_do_not_change_other_heads():
    """Excluding two kinds removes them and keeps the kind and strength of heads with other kinds."""
    excluded = {"spikes", "doubled skull"}
    rest = ProceduralGenerator(ProceduralOptions(defect_share=1.0, defect_kinds=tuple(sorted(set(KINDS) - excluded))))
    every = ProceduralGenerator(ProceduralOptions(defect_share=1.0))
    for seed in range(100):
        before, after = every.defect(every.sample(seed)), rest.defect(rest.sample(seed))
        assert after.kind not in excluded
        assert after.strength == before.strength
        assert before.kind in excluded or after == before


def test_strengths_fill_the_requested_range():
    """Strengths fill the requested range, and scale linearly with those of the default range."""
    drawn = {}
    for strengths in ((0.2, 1.0), (0.5, 0.6)):
        generator = ProceduralGenerator(ProceduralOptions(defect_share=1.0, defect_strengths=strengths))
        drawn[strengths] = np.array([generator.defect(generator.sample(seed)).strength for seed in range(100)])
    low = drawn[0.5, 0.6]
    assert 0.5 <= low.min() < 0.52 < 0.58 < low.max() <= 0.6
    np.testing.assert_allclose((low - 0.5) / 0.1, (drawn[0.2, 1.0] - 0.2) / 0.8, atol=1e-9)


def test_defect_follows_the_seed_and_not_the_latent():
    """Interpolating the latent towards another head keeps the defect of the start's seed."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=1.0))
    start, end = generator.sample(3), generator.sample(4)
    assert generator.defect(interpolate(start, end, 0.5)) == generator.defect(start)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"colour seam"}))
def test_geometric_defects_change_the_distance_inside_the_cube(kind, lattice):
    """Every geometric defect changes the signed distance and keeps the solid inside the cube."""
    scattered = np.random.default_rng(2).uniform(-0.3, 0.3, (30000, 3)).astype(np.float32)
    points = np.concatenate([lattice, scattered])
    clean, defective = (in_chunks(scene.distance, points) for scene in (_scene(), _scene(kind)))
    assert np.abs(clean - defective).max() > 0.004
    assert np.isfinite(defective).all()
    assert np.abs(points[defective < 0.0]).max() < 0.495


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_faintest_defects_are_visible(kind):
    """At the lowest default strength, at least 5 pixels of four 48 px views change by more than 24 levels."""
    cameras = orbit(np.arange(4) * 90.0, np.zeros(4))
    clean = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    defective = ProceduralGenerator(
        ProceduralOptions(defect_share=1.0, defect_kinds=(kind,), defect_strengths=(0.2, 0.2))
    )
    first, second = (g.render(g.sample(3), cameras, 48).rgb.astype(int) for g in (clean, defective))
    assert (np.abs(first - second).max(axis=-1) > 24).sum() >= 5


def test_stronger_defects_change_more(lattice):
    """A flattened skull differs from the clean head in more points at full strength than at low strength."""
    clean = in_chunks(_scene().distance, lattice) < 0
    weak, strong = (in_chunks(_scene("flattened skull", strength=s).distance, lattice) < 0 for s in (0.1, 1.0))
    assert (clean != strong).sum() > (clean != weak).sum()


def test_floating_pieces_are_disconnected():
    """A clean head has one connected component, a head with floating pieces more than one."""
    axis = np.linspace(-0.49, 0.49, 50, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    sizes = {
        kinds: label(in_chunks(_scene(*kinds).distance, grid.reshape(-1, 3)).reshape(50, 50, 50) < 0)[1]
        for kinds in ((), ("floating pieces",))
    }
    assert sizes[()] == 1
    assert sizes["floating pieces",] > 1


def test_mirrored_face_shows_the_face_at_the_back(lattice):
    """A mirrored face does not recede the back of the head, and the surface behind an eye is not hair."""
    scene = _scene("mirrored face", strength=1.0)
    assert (
        lattice[in_chunks(scene.distance, lattice) < 0][:, 2].min()
        <= lattice[in_chunks(_scene().distance, lattice) < 0][:, 2].min()
    )
    middle = scene.damages[0].middle
    eye = np.array([scene.head.sights()["right eye"].place], np.float32)
    ray = np.repeat(eye, 400, axis=0)
    ray[:, 2] = np.linspace(-0.45, middle, 400)
    distance = in_chunks(scene.distance, ray)
    surface = ray[[np.argmax(distance < 0)]]
    assert in_chunks(lambda p: scene.parts(p).argmin(dim=0), surface)[0] != 1


def test_colour_seam_changes_colours_only(lattice):
    """A colour seam changes some but not all colours near the surface, and no distance."""
    clean, seam = _scene(), _scene("colour seam")
    np.testing.assert_array_equal(in_chunks(clean.distance, lattice), in_chunks(seam.distance, lattice))
    near = lattice[np.abs(in_chunks(clean.distance, lattice)) < 0.02]
    changed = np.abs(in_chunks(clean.shade, near) - in_chunks(seam.shade, near))[1:].max(axis=0) > 1e-3
    assert 0.02 < changed.mean() < 0.98


def test_soft_seams_change_colour_gradually(lattice):
    """At softness 1 more colours lie between those of the two sides than at softness 0, which has next to none."""
    places = np.random.default_rng(3).uniform(-0.3, 0.3, (4000, 3)).astype(np.float32)
    between = {}
    for softness in (0.0, 1.0):
        damage = _scene("colour seam", softness=softness).damages[0]
        gain = in_chunks(damage.gain, places)
        sides = np.abs(gain - 1.0).max(axis=0) / np.abs(gain - 1.0).max()
        between[softness] = ((sides > 0.02) & (sides < 0.98)).mean()
    assert between[0.0] < 0.01
    assert between[1.0] > 0.05


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"colour seam"}))
def test_softness_changes_the_surface_and_keeps_the_defect(kind, lattice):
    """A soft defect differs from the sharp one, and from the clean head."""
    points = np.random.default_rng(2).uniform(-0.4, 0.4, (30000, 3)).astype(np.float32)
    clean, sharp, soft = (
        in_chunks(scene.distance, points) for scene in (_scene(), _scene(kind), _scene(kind, softness=1.0))
    )
    assert np.abs(soft - sharp).max() > 1e-3
    assert np.abs(soft - clean).max() > 0.004


def test_the_main_defect_is_the_strongest_and_independent_of_the_others():
    """Further defects have other kinds and are no stronger, and their share leaves the main defect as it is."""
    one, many = (
        ProceduralGenerator(ProceduralOptions(defect_share=0.6, defect_more_share=share)) for share in (0.0, 0.5)
    )
    counts = []
    for seed in range(300):
        alone, found = one.defects(one.sample(seed)), many.defects(many.sample(seed))
        assert alone == found[:1]
        assert many.defect(many.sample(seed)) == (found[0] if found else None)
        assert len({defect.kind for defect in found}) == len(found)
        assert all(0.2 <= defect.strength <= found[0].strength for defect in found)
        counts.append(len(found))
    shares = np.bincount(counts, minlength=4) / len(counts)
    np.testing.assert_allclose(shares, [0.4, 0.3, 0.15, 0.15], atol=0.08)


def test_further_defects_keep_to_the_kinds_in_use():
    """Where only one kind is in use, no head has a second defect."""
    options = ProceduralOptions(defect_share=1.0, defect_more_share=1.0, defect_kinds=("holes",))
    assert {len(ProceduralGenerator(options).defects(ProceduralGenerator().sample(seed))) for seed in range(20)} == {1}


def test_defects_add_up(lattice):
    """A doubled head with a colour seam has the solid of the doubled head and the seam on both copies."""
    both, doubled = _scene("colour seam", "doubled skull"), _scene("doubled skull")
    np.testing.assert_array_equal(in_chunks(both.distance, lattice), in_chunks(doubled.distance, lattice))
    near = lattice[np.abs(in_chunks(doubled.distance, lattice)) < 0.02]
    changed = np.abs(in_chunks(both.shade, near) - in_chunks(doubled.shade, near))[1:].max(axis=0) > 1e-3
    seam = np.abs(in_chunks(both.damages[1].gain, near) - 1.0).max(axis=0) > 0.02
    assert changed.any()
    assert (changed <= seam).all()


def test_no_damage_is_the_identity():
    """Without damage, points and parts are unchanged, and the factor on colours is one."""
    damage, p, parts = Damage(), Points(*torch.zeros(3, 2)), torch.ones(5, 2)
    assert [source.points for source in damage.sources(p)] == [p]
    assert damage.carve(p, parts) is parts
    assert (damage.gain(p) == 1.0).all()
    assert _scene().damages == ()
