from dataclasses import astuple, fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.procedural.generator import interpolate
from spinmeround.panohead_bridge.procedural.traits import FACTORS, LATENT_SIZE, OWN, SHARED, Traits, decode

pytestmark = pytest.mark.fast


def _seeded(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(LATENT_SIZE)


def test_factors_and_traits_use_the_full_latent():
    """Factors and the traits with a number of their own together have the size of the latent."""
    assert len(FACTORS) + len(OWN) == LATENT_SIZE
    assert (*OWN, *SHARED) == tuple(f.name for f in fields(Traits))


def test_shared_traits_are_independent():
    """Over 1,500 latents no two shared traits without factors correlate by more than 0.1, and none of them correlates
    with a trait of the body by more than 0.26."""
    heads = [decode(_seeded(seed)) for seed in range(1500)]
    names = [f.name for f in fields(Traits) if not any(f.metadata["loadings"])]
    table = np.corrcoef([[getattr(head, name) for head in heads] for name in names])
    shared = np.array([name in SHARED for name in names])
    np.fill_diagonal(table, 0.0)
    assert np.abs(table[np.ix_(shared, shared)]).max() < 0.1
    assert np.abs(table[np.ix_(shared, ~shared)]).max() < 0.26


def test_tilt_is_bell_shaped():
    """Tilts have a standard deviation of about 4 degrees and stay below 10."""
    tilts = np.array([decode(_seeded(seed)).tilt_deg for seed in range(1000)])
    assert 3.7 < tilts.std() < 4.7
    assert np.abs(tilts).max() < 10.0


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 50.0))
@settings(max_examples=50, deadline=None)
def test_traits_stay_in_their_ranges(seed: int, scale: float):
    """No trait leaves its range, however extreme the latent."""
    traits = decode(_seeded(seed) * scale)
    for f in fields(Traits):
        low, high = f.metadata["range"]
        assert low - 1e-12 <= getattr(traits, f.name) <= high + 1e-12


def test_zero_latent_is_the_middle_of_every_range():
    """Every trait of the mean head is the middle of its range."""
    middle = [sum(f.metadata["range"]) / 2 for f in fields(Traits)]
    np.testing.assert_allclose(astuple(decode(np.zeros(LATENT_SIZE))), middle, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(0, LATENT_SIZE - 1))
@settings(max_examples=50, deadline=None)
def test_each_latent_dimension_changes_traits_smoothly(seed: int, index: int):
    """A step in one dimension changes some trait, and a tenth of the step changes it by about a tenth."""
    latent = _seeded(seed).clip(-2.0, 2.0)
    spans = np.array([f.metadata["range"][1] - f.metadata["range"][0] for f in fields(Traits)])

    def moved(step: float) -> np.ndarray:
        other = latent.copy()
        other[index] += step
        return (np.array(astuple(decode(other))) - np.array(astuple(decode(latent)))) / spans

    large, small = moved(1e-2), moved(1e-3)
    assert np.abs(large).max() > 1e-5
    np.testing.assert_allclose(small, large / 10.0, atol=1e-4)


def test_truncation_scales_the_latent():
    """Truncation 0.5 halves the latent; 0 gives every seed the mean head."""
    full, half, none = (ProceduralGenerator(ProceduralOptions(truncation=psi)).sample(3) for psi in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(half.latent, full.latent / 2)
    assert not none.latent.any()


def test_latents_are_standard_normal():
    """Over many seeds, latents have mean 0 and standard deviation 1."""
    generator = ProceduralGenerator()
    latents = np.stack([generator.sample(seed).latent for seed in range(500)])
    assert abs(latents.mean()) < 0.03
    assert abs(latents.std() - 1.0) < 0.03


def test_interpolation_meets_both_ends():
    """Shares 0 and 1 return the two latents, and share 0.5 keeps their scale."""
    generator = ProceduralGenerator()
    a, b = generator.sample(1), generator.sample(2)
    np.testing.assert_array_equal(interpolate(a, b, 0.0).latent, a.latent)
    np.testing.assert_array_equal(interpolate(a, b, 1.0).latent, b.latent)
    assert 0.7 < interpolate(a, b, 0.5).latent.std() < 1.3


def test_invalid_latents_and_seeds_are_refused():
    """Latents of a wrong shape or with NaN, and negative seeds, are ValueErrors."""
    with pytest.raises(ValueError, match=r"expected 64 finite numbers, got shape \(3,\)"):
        decode(np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        decode(np.full(LATENT_SIZE, np.nan))
    with pytest.raises(ValueError, match="expected 0 or more, got -1"):
        ProceduralGenerator().sample(-1)
