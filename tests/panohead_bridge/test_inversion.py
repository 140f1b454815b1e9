"""Fitting generators to pictures: procedural heads by their numbers, PanoHead's by w and its weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.panohead_bridge.panohead import PanoHead, make
from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.panohead_bridge.procedural.fitting import Fit, FitOptions
from spinmeround.panohead_bridge.procedural.traits import LATENT_SIZE
from spinmeround.panohead_bridge.protocol import HeadGenerator, Inversion, InvertibleGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Identity, Rendering
from tests.support.mini_panohead import SIDE, write_checkout, write_network

GIVEN, TARGETS = orbit([20.0], [5.0]), orbit([100.0, 200.0], [0.0, 10.0])
SHORT = {"steps": 60, "tuning_steps": 0, "samples": 50}


def psnr(found: Rendering, truth: Rendering) -> float:
    return float(-10 * np.log10(np.square(found.rgb / 255.0 - truth.rgb / 255.0).mean()))


def inverted(generator: InvertibleGenerator, given: Rendering, **options: object) -> Inversion:
    return generator.invert(given.rgb, given.mask, GIVEN, TARGETS, options)


@pytest.fixture(scope="module")
def panohead(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PanoHead]:
    place = tmp_path_factory.mktemp("panohead")
    checkout = write_checkout(place / "PanoHead")
    generator = make(checkout=checkout, network=write_network(checkout, place / "g.pkl"), trust=True, device="cpu")
    yield generator
    generator.close()


def test_both_generators_can_be_inverted(generator: ProceduralGenerator, panohead: PanoHead) -> None:
    """A generator of the plain protocol can't."""
    assert isinstance(generator, InvertibleGenerator)
    assert isinstance(panohead, InvertibleGenerator)
    assert HeadGenerator is not InvertibleGenerator
    assert not isinstance(object(), InvertibleGenerator)


class LinearHeads:
    """In place of a scene: colours that are a linear function of the latent, so the best one is known."""

    def __init__(self, side: int) -> None:
        self.slopes = np.random.default_rng(3).normal(0.0, 4.0, (side * side * 3, LATENT_SIZE))

    def render_surface(self, identity: Identity, cameras: Cameras, resolution: int, cells: int) -> Rendering:
        rgb = np.rint(np.clip(127.5 + self.slopes @ identity.latent, 0, 255)).astype(np.uint8)
        return Rendering(
            rgb=rgb.reshape(1, resolution, resolution, 3),
            mask=np.full((1, resolution, resolution), 255, np.uint8),
            depth=np.zeros((1, resolution, resolution), np.float32),
        )


def test_least_squares_find_the_most_probable_latent() -> None:
    """Of linear pictures it is that of ridge regression, whatever the search begins with."""
    heads, truth = LinearHeads(16), np.random.default_rng(5).standard_normal(LATENT_SIZE).astype(np.float32)
    given = heads.render_surface(Identity(seed=0, latent=truth), GIVEN, 16, 64)
    options = FitOptions(side=16, candidates=4, steps=12, pixel_deviation=0.1, difference=0.5)
    found = Fit(heads.render_surface, given.rgb, given.mask, GIVEN, options)()
    slopes = heads.slopes / 255.0 / options.pixel_deviation
    ridge = np.linalg.solve(slopes.T @ slopes + np.eye(LATENT_SIZE), slopes.T @ (slopes @ truth))
    assert np.abs(found.latent - ridge).max() < 0.05
    assert np.abs(found.latent - truth).max() > 0.1


@pytest.mark.slow
def test_a_procedural_head_is_found_better_than_by_chance(generator: ProceduralGenerator) -> None:
    """Steps bring both the given picture and unseen sides closer than the best of random heads."""
    truth = generator.sample(501)
    given, sides = generator.render(truth, GIVEN, 64), generator.render(truth, TARGETS, 64)
    chance = inverted(generator, given, candidates=2, steps=0)
    found = inverted(generator, given, candidates=2, steps=2)
    assert found.error < chance.error
    assert psnr(found.rendering, sides) > psnr(chance.rendering, sides)


def test_the_head_itself_is_the_end_of_the_search(generator: ProceduralGenerator) -> None:
    """At the true latent the difference of equal pictures is zero, and another latent has some."""
    truth = generator.sample(7)
    options = FitOptions(side=32, cells=64)
    given = generator._heads.render_surface(truth, GIVEN, 32, 64)
    fit = Fit(generator._heads.render_surface, given.rgb, given.mask, GIVEN, options)
    assert fit.error(truth) == 0.0
    assert fit.error(Identity(seed=7, latent=-truth.latent)) > 0.01


def test_normals_of_a_found_head_are_those_of_its_surface(generator: ProceduralGenerator) -> None:
    """Unit vectors that face the camera wherever the pixel's centre has a depth."""
    given = generator.render(generator.sample(7), GIVEN, 48)
    found = inverted(generator, given, candidates=1, steps=0)
    assert found.normals is not None
    assert (found.normals.hit == np.isfinite(found.rendering.depth)).all()
    on_head = found.normals.normals[found.normals.hit]
    assert np.allclose(np.linalg.norm(on_head, axis=-1), 1.0, atol=1e-4)
    towards = TARGETS.cam2world[:, :3, 2][:, None, None] * np.ones_like(found.normals.normals)
    facing = (on_head * towards[found.normals.hit]).sum(-1)
    assert (facing < 0.3).mean() > 0.99


def test_a_search_is_repeatable(generator: ProceduralGenerator) -> None:
    """Equal arguments give equal pictures."""
    given = generator.render(generator.sample(7), GIVEN, 32)
    first, second = (inverted(generator, given, candidates=3, steps=0) for _ in range(2))
    assert (first.rendering.rgb == second.rendering.rgb).all()


def test_w_finds_the_size_of_panoheads_ball(panohead: PanoHead) -> None:
    """The radius depends on w; from one picture, pictures from other sides are nearer than the mean head's."""
    truth = Identity(seed=0, latent=np.full(panohead._about["latent"], 2.0, np.float32))
    given, sides = panohead.render(truth, GIVEN, SIDE), panohead.render(truth, TARGETS, SIDE)
    mean = inverted(panohead, given, **{**SHORT, "steps": 0})
    found = inverted(panohead, given, **SHORT)
    assert found.error < 0.3 * mean.error
    assert psnr(found.rendering, sides) > psnr(mean.rendering, sides) + 6.0
    assert found.normals is None


def test_tuning_adds_what_w_can_not_and_leaves_the_network_as_it_was(panohead: PanoHead) -> None:
    """A tint is in no latent: the tuned weights have it, the next head does not."""
    head = panohead.sample(3)
    before = panohead.render(head, GIVEN, SIDE)
    tinted = Rendering(
        rgb=np.clip(before.rgb - 40.0 * before.mask[..., None] / 255.0, 0, 255).astype(np.uint8),
        mask=before.mask,
        depth=before.depth,
    )
    alone = inverted(panohead, tinted, **SHORT)
    tuned = inverted(panohead, tinted, **{**SHORT, "tuning_steps": 60, "tuning_rate": 0.05})
    assert tuned.error < 0.5 * alone.error
    after = panohead.render(head, GIVEN, SIDE)
    assert (after.rgb == before.rgb).all()


def test_wrong_options_are_refused(generator: ProceduralGenerator, panohead: PanoHead, tmp_path: Path) -> None:
    """Options of the other generator, and a perceptual network that is not there."""
    given = Rendering(
        rgb=np.zeros((1, 32, 32, 3), np.uint8), mask=np.zeros((1, 32, 32), np.uint8), depth=np.zeros((1, 32, 32), "f4")
    )
    with pytest.raises(ValidationError, match="tuning_steps"):
        inverted(generator, given, tuning_steps=1)
    with pytest.raises(ValidationError, match="candidates"):
        inverted(panohead, given, candidates=1)
    with pytest.raises(ConfigError, match=r"vgg16.*expected a TorchScript file, found none"):
        inverted(panohead, given, vgg16=str(tmp_path / "vgg16.pt"))
