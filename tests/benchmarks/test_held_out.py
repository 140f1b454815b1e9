"""The held-out family: a labelled generator whose kinds all change heads, and none at strength 0."""

from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.options import DEFECT_KINDS
from spinmeround.panohead_bridge.procedural.tracing import in_chunks
from spinmeround.panohead_bridge.protocol import HeadGenerator, LabelledGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from tests.benchmarks.held_out import KINDS, NOTICEABLE, STRENGTHS, HeldOutGenerator, HeldOutOptions

SEED = 21


def held_out(kind: str, strength: float, **options: object) -> HeldOutGenerator:
    return HeldOutGenerator(HeldOutOptions(share=1.0, kinds=(kind,), strengths=(strength,), **options))


@cache
def clean() -> tuple[np.ndarray, np.ndarray]:
    """Places near the surface of a clean head and some all over the cube, and its distance and colours there."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    scene = generator._heads.scene(generator.sample(SEED))
    scattered = np.random.default_rng(1).uniform(-0.45, 0.45, (150_000, 3)).astype(np.float32)
    near = np.abs(in_chunks(scene.distance, scattered)) < 0.03
    places = np.concatenate([scattered[near], scattered[:4000]])
    return places, in_chunks(scene.shade, places)


def changed(kind: str, strength: float) -> np.ndarray:
    """Change of the distance, clipped to a shell, or of the colour near the surface, at each place."""
    places, before = clean()
    generator = held_out(kind, strength)
    after = in_chunks(generator._heads.scene(generator.sample(SEED)).shade, places)
    near = np.minimum(np.abs(before[0]), np.abs(after[0])) < 0.02
    moved = np.abs(np.clip(after[0], -0.02, 0.02) - np.clip(before[0], -0.02, 0.02))
    return np.maximum(moved, near * 0.2 * np.abs(after[1:] - before[1:]).max(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_clean_head(kind):
    """Without strength, distance and colour are those of the clean head."""
    assert changed(kind, 0.0).max() < 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_change_heads_more_with_strength(kind):
    """Every kind changes distance or colour in part of the head, at full strength more than at the least."""
    least, most = changed(kind, STRENGTHS[0]), changed(kind, STRENGTHS[-1])
    assert np.isfinite(most).all()
    assert (least > 0.002).sum() >= 5
    assert most.sum() > least.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_solids_stay_inside_the_cube(kind):
    """At full strength no part of the head reaches the faces of the cube."""
    axis = np.linspace(-0.5, 0.5, 26, dtype=np.float32)
    lattice = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    outermost = lattice[np.abs(lattice).max(axis=1) > 0.47]
    generator = held_out(kind, 1.0)
    assert generator.signed_distance(generator.sample(SEED), outermost).min() > 0.0


def test_kinds_are_new_and_each_has_a_verdict():
    """At least 16 kinds, none of the procedural generator's own; a person's verdict on each is recorded."""
    assert len(KINDS) >= 16
    assert not set(KINDS) & set(DEFECT_KINDS)
    assert set(NOTICEABLE) == set(KINDS)
    assert set(NOTICEABLE.values()) <= set(STRENGTHS)


def test_heads_follow_the_seed():
    """Two generators give the same defects and, bit for bit, the same pictures."""
    first, second = (held_out("second nose", 1.0) for _ in range(2))
    views = orbit([20.0], [0.0])
    assert first.defect(first.sample(3)) == second.defect(second.sample(3))
    second.render(second.sample(4), views, 24)
    np.testing.assert_array_equal(
        first.render(first.sample(3), views, 24).rgb, second.render(second.sample(3), views, 24).rgb
    )


def test_half_of_the_heads_are_clean():
    """By default half of the heads have a defect; every kind and strength is drawn; clean heads are procedural ones."""
    generator, plain = HeldOutGenerator(), ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    drawn = [generator.defect(generator.sample(seed)) for seed in range(1000)]
    faults = [fault for fault in drawn if fault is not None]
    assert 450 < len(faults) < 550
    assert {fault.kind for fault in faults} == set(KINDS)
    assert {fault.strength for fault in faults} == set(STRENGTHS)
    seed = drawn.index(None)
    views = orbit([20.0], [0.0])
    ours, theirs = (g.render(g.sample(seed), views, 24).rgb for g in (generator, plain))
    np.testing.assert_array_equal(ours, theirs)


def test_a_profile_can_name_the_family():
    """The factory makes a labelled generator, also of volumes; options enter the fingerprint."""
    name = "tests.benchmarks.held_out:make"
    options = ({}, {"share": 1.0}, {"procedural": {"defect_share": 0.0, "rendering": "volume"}})
    made = [make_generator(GeneratorConfig(name=name, options=each)) for each in options]
    assert all(isinstance(generator, HeadGenerator) and isinstance(generator, LabelledGenerator) for generator in made)
    assert len({generator.fingerprint for generator in made}) == 3
    shown = made[2].render(made[2].sample(SEED), orbit([0.0], [0.0]), 24)
    assert ((shown.mask > 8) & (shown.mask < 247)).any()


@pytest.mark.parametrize(
    "options",
    [{"share": 1.5}, {"kinds": ["wigs"]}, {"strengths": [1.2]}, {"procedural": {"defect_share": 0.3}}],
    ids=["share", "kinds", "strengths", "procedural"],
)
def test_invalid_options_are_refused(options):
    """Values out of range, unknown kinds and a second family of defects are refused by name."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        HeldOutOptions(**options)


def test_a_head_is_noticeable_from_the_least_strength_of_its_kind():
    """Weaker defects and clean heads are not."""
    generator = HeldOutGenerator()
    heads = [generator.sample(seed) for seed in range(60)]
    defects = [generator.defect(head) for head in heads]
    expected = [defect is not None and defect.strength >= NOTICEABLE[defect.kind] for defect in defects]
    assert [generator.is_noticeable(head) for head in heads] == expected
    assert 0 < sum(expected) < sum(defect is not None for defect in defects)
