"""The generator SphereHead on a miniature checkout: a ball whose radius its two layers change."""

import numpy as np
import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.panohead import SphereHead, make, make_spherehead
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.plan import plan_heads
from spinmeround.tasks.weights.check import parts_of
from tests.support.mini_panohead import CENTRE, RADIUS, SIDE, write_checkout, write_network

PSI = 0.7


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A checkout and a network of each kind."""
    place = tmp_path_factory.mktemp("spherehead")
    found = {}
    for name, spherical in (("panohead", False), ("spherehead", True)):
        checkout = write_checkout(place / name, spherical=spherical)
        found[name] = (checkout, write_network(checkout, place / f"{name}.pkl"))
    return found


@pytest.fixture(scope="module")
def spherehead(places):
    checkout, network = places["spherehead"]
    options = {"checkout": str(checkout), "network": str(network), "trust": True, "device": "cpu"}
    generator = make_generator(GeneratorConfig(name="spherehead", options=options))
    yield generator
    generator.close()


def test_heads_name_their_generator(spherehead):
    """Its name, the first part of the ids of its heads, is SphereHead's; weights run in the checkout's classes."""
    assert isinstance(spherehead, SphereHead)
    assert (spherehead.name, spherehead.options.code) == ("spherehead", "checkout")
    profile = load_profile("demo", ["plan.heads=1", "plan.first_seed=5"])
    assert [head.id for head in plan_heads("spherehead", profile.plan)] == ["spherehead-000005"]


def test_planes_pass_its_layers_once_in_views_and_density(spherehead):
    """The radius of the ball is that of planes that both layers have read once: in the second of two views, whose
    planes are kept, and at the surface level of the density."""
    head = spherehead.sample(3)
    radius = RADIUS + 0.01 * np.tanh(2 * PSI * head.latent[0] + (0.25 + 0.5) / 2)
    views = spherehead.render(head, orbit([0.0, 90.0], [0.0, 0.0]), SIDE)
    distance = np.linalg.norm(np.array([2.7, 0.0, 0.0]) - CENTRE)
    pixels = np.pi * (radius * 4.2647 / np.sqrt(distance**2 - radius**2) * SIDE) ** 2
    assert abs((views.mask[1] / 255).sum() / pixels - 1) < 0.03
    surface = np.array(CENTRE) + radius * np.eye(3)
    np.testing.assert_allclose(spherehead.density(head, surface.astype(np.float32)), 10.0, atol=1e-3)


@pytest.mark.parametrize(
    ("factory", "source", "network", "message"),
    [
        (make_spherehead, "spherehead", "panohead", "checkout: expected PanoHead's source for this network"),
        (make, "panohead", "spherehead", "checkout: expected SphereHead's source for this network, found PanoHead's"),
        (make_spherehead, "panohead", "panohead", "found one of PanoHead's; set generator.name to 'panohead'"),
    ],
    ids=["PanoHead's network", "SphereHead's network", "PanoHead's network and source"],
)
def test_a_network_and_a_source_that_do_not_fit_are_refused(places, factory, source, network, message):
    """The error names the option, and what belongs together."""
    generator = factory(checkout=places[source][0], network=places[network][1], trust=True, device="cpu", code="pickle")
    with pytest.raises(ConfigError, match=message):
        generator.sample(0)
    generator.close()


def test_a_profile_names_its_own_parts():
    """The parts that are checked are SphereHead's, with its own places and commands."""
    changes = ["generator.name=spherehead", "generator.options.network=weights/spherehead-ckpt-025000.pkl"]
    uses = parts_of(load_profile("panohead", [*changes, "generator.options.checkout=weights/SphereHead"]))
    assert [use.name for use in uses[:2]] == ["spherehead-checkout", "spherehead"]
