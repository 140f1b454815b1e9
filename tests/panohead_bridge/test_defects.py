import numpy as np
import pytest
import torch
from scipy.ndimage import label

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points
from spinmeround.panohead_bridge.procedural.defects import KINDS, damage_of
from spinmeround.panohead_bridge.procedural.generator import interpolate
from spinmeround.panohead_bridge.procedural.options import DEFECT_KINDS, Defect
from spinmeround.panohead_bridge.procedural.scene import Scene
from spinmeround.panohead_bridge.procedural.tracing import in_chunks
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE, decode


def _scene(kind: str | None, strength: float = 0.8) -> Scene:
    defect = None if kind is None else Defect(kind=kind, strength=strength)
    return Scene.of(decode(np.zeros(LATENT_SIZE)), defect, np.random.default_rng(1))


def test_every_kind_is_implemented():
    """The kinds that the options accept are those that have an implementation, in the order of drawing."""
    assert tuple(KINDS) == DEFECT_KINDS


def test_share_of_defects_is_as_requested():
    """No head, all heads, or about the share of them has a defect; kinds all occur."""
    generators = {share: ProceduralGenerator(ProceduralOptions(defect_share=share)) for share in (0.0, 0.3, 1.0)}
    found = {share: [g.defect(g.sample(s)) for s in range(600)] for share, g in generators.items()}
    assert not any(found[0.0])
    assert all(found[1.0])
    assert 0.24 < np.mean([d is not None for d in found[0.3]]) < 0.36
    assert {d.kind for d in found[1.0]} == set(KINDS)


def test_share_does_not_change_heads():
    """A seed has the same latent, and the same defect if any, whatever the share."""
    low, high = (ProceduralGenerator(ProceduralOptions(defect_share=share)) for share in (0.3, 1.0))
    for seed in range(60):
        np.testing.assert_array_equal(low.sample(seed).latent, high.sample(seed).latent)
        assert low.defect(low.sample(seed)) in (None, high.defect(high.sample(seed)))


def test_held_out_kinds_leave_the_other_heads_alone():
    """Without two kinds, heads of the other kinds keep kind and strength, and nobody has one of the two."""
    held = {"spikes", "doubled skull"}
    rest = ProceduralGenerator(ProceduralOptions(defect_share=1.0, defect_kinds=tuple(sorted(set(KINDS) - held))))
    every = ProceduralGenerator(ProceduralOptions(defect_share=1.0))
    for seed in range(100):
        before, after = every.defect(every.sample(seed)), rest.defect(rest.sample(seed))
        assert after.kind not in held
        assert after.strength == before.strength
        assert before.kind in held or after == before


def test_strengths_are_as_asked():
    """Strengths fill the range that is asked for, in the same order of heads as by default."""
    drawn = {}
    for strengths in ((0.25, 1.0), (0.5, 0.6)):
        generator = ProceduralGenerator(ProceduralOptions(defect_share=1.0, defect_strengths=strengths))
        drawn[strengths] = np.array([generator.defect(generator.sample(seed)).strength for seed in range(100)])
    low = drawn[0.5, 0.6]
    assert 0.5 <= low.min() < 0.52 < 0.58 < low.max() <= 0.6
    np.testing.assert_allclose((low - 0.5) / 0.1, (drawn[0.25, 1.0] - 0.25) / 0.75, atol=1e-9)


def test_defect_follows_the_seed_and_not_the_latent():
    """Moving the latent towards another head keeps the seed's defect."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=1.0))
    start, end = generator.sample(3), generator.sample(4)
    assert generator.defect(interpolate(start, end, 0.5)) == generator.defect(start)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"colour seam"}))
def test_defects_change_the_solid_and_stay_in_the_cube(kind, lattice):
    """Every geometric defect changes the distance and leaves nothing beyond the cube."""
    scattered = np.random.default_rng(2).uniform(-0.3, 0.3, (30000, 3)).astype(np.float32)
    points = np.concatenate([lattice, scattered])
    sound, broken = (in_chunks(_scene(k).distance, points) for k in (None, kind))
    assert np.abs(sound - broken).max() > 0.004
    assert np.isfinite(broken).all()
    assert np.abs(points[broken < 0.0]).max() < 0.495


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_faintest_defects_show(kind):
    """At the least strength that is drawn, at least 5 pixels of small previews clearly change."""
    cameras = orbit(np.arange(4) * 90.0, np.zeros(4))
    sound = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    broken = ProceduralGenerator(
        ProceduralOptions(defect_share=1.0, defect_kinds=(kind,), defect_strengths=(0.25, 0.25))
    )
    first, second = (g.render(g.sample(3), cameras, 48).rgb.astype(int) for g in (sound, broken))
    assert (np.abs(first - second).max(axis=-1) > 24).sum() >= 5


def test_stronger_defects_change_more(lattice):
    """A flattened skull at full strength is further from the sound head than at low strength."""
    sound = in_chunks(_scene(None).distance, lattice) < 0
    weak, strong = (in_chunks(_scene("flattened skull", s).distance, lattice) < 0 for s in (0.1, 1.0))
    assert (sound != strong).sum() > (sound != weak).sum()


def test_floating_pieces_float():
    """Floating pieces are solids of their own."""
    axis = np.linspace(-0.49, 0.49, 50, dtype=np.float32)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    sizes = {
        k: label(in_chunks(_scene(k).distance, grid.reshape(-1, 3)).reshape(50, 50, 50) < 0)[1]
        for k in (None, "floating pieces")
    }
    assert sizes[None] == 1
    assert sizes["floating pieces"] > 1


def test_mirrored_face_shows_skin_behind(lattice):
    """With a mirrored face the back's surface comes out further and shows skin and eyes, not only hair."""
    scene = _scene("mirrored face", 1.0)
    assert (
        lattice[in_chunks(scene.distance, lattice) < 0][:, 2].min()
        <= lattice[in_chunks(_scene(None).distance, lattice) < 0][:, 2].min()
    )
    middle = scene.damage.middle
    eye = np.array([scene.head.sights()["right eye"].place], np.float32)
    ray = np.repeat(eye, 400, axis=0)
    ray[:, 2] = np.linspace(-0.45, middle, 400)
    distance = in_chunks(scene.distance, ray)
    surface = ray[[np.argmax(distance < 0)]]
    assert in_chunks(lambda p: scene.parts(p).argmin(dim=0), surface)[0] != 1


def test_colour_seam_leaves_the_solid_alone(lattice):
    """A colour seam changes colours on one side of a plane, and no distance."""
    sound, seam = _scene(None), _scene("colour seam")
    np.testing.assert_array_equal(in_chunks(sound.distance, lattice), in_chunks(seam.distance, lattice))
    near = lattice[np.abs(in_chunks(sound.distance, lattice)) < 0.02]
    changed = np.abs(in_chunks(sound.shade, near) - in_chunks(seam.shade, near))[1:].max(axis=0) > 1e-3
    assert 0.02 < changed.mean() < 0.98


def test_no_defect_does_nothing():
    """The damage of no defect hands points, parts and colours through."""
    damage = damage_of(None, np.random.default_rng(0), lambda p: p.x)
    p = Points(*torch.zeros(3, 2))
    assert [source.points for source in damage.sources(p)] == [p]
    parts, colours = torch.ones(5, 2), torch.ones(3, 2)
    assert damage.carve(p, parts) is parts
    assert damage.tint(p, colours) is colours
