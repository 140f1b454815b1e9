"""The PanoHead bridge on a miniature checkout whose heads are balls at a known position."""

import shutil
import sys

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import Cameras, orbit, project
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.panohead import make
from spinmeround.panohead_bridge.panohead.network import axial_depth, on_white
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.generator import generator_record
from spinmeround.tasks.heads.mesh import mesh_head
from spinmeround.tasks.heads.sample import SAMPLE, SampleParams, SampleSections
from spinmeround.tasks.stage import Head
from tests.support.mini_panohead import CENTRE, LATENT, OFFSET, RADIUS, SIDE, calls, write_checkout, write_network

FOREIGN = ("training", "metrics", "legacy", "dnnlib", "torch_utils", "camera_utils", "gui_utils")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("panohead")


@pytest.fixture(scope="module")
def checkout(place):
    return write_checkout(place / "PanoHead")


@pytest.fixture(scope="module")
def network(place, checkout):
    return write_network(checkout, place / "network.pkl")


@pytest.fixture(scope="module")
def panohead(checkout, network):
    generator = make(checkout=checkout, network=network, trust=True, device="cpu")
    yield generator
    generator.close()


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    return orbit([0.0, 90.0, 200.0, 301.0], [0.0, 25.0, -30.0, 10.0])


def ball_radius(generator, identity) -> float:
    return RADIUS + 0.01 * np.tanh(generator.options.truncation_psi * identity.latent[0])


def test_modules_of_the_checkout_stay_out_of_this_process(panohead, cameras):
    """After a rendering, the checkout's modules can't be imported here and `sys.path` is unchanged."""
    before = list(sys.path)
    panohead.render(panohead.sample(1), cameras, SIDE)
    assert sys.path == before
    for name in FOREIGN:
        assert name not in sys.modules
        with pytest.raises(ImportError):
            __import__(name)


def test_implements_the_protocol_and_starts_lazily(checkout, network, place):
    """It is a HeadGenerator with the name of its options, and no process starts before the first request."""
    options = {"checkout": str(checkout), "network": str(network), "trust": True, "name": "spherehead"}
    generator = make_generator(GeneratorConfig(name="panohead", options=options))
    assert isinstance(generator, HeadGenerator)
    assert generator.name == "spherehead"
    assert generator.box_warp == 1.0
    assert "_process" not in vars(generator)


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_seeds_use_numpys_legacy_generator(panohead, seed):
    """The latent of a seed equals that of PanoHead's scripts."""
    expected = np.random.RandomState(seed).randn(1, LATENT)[0].astype(np.float32)
    np.testing.assert_array_equal(panohead.sample(seed).latent, expected)


def test_cameras_and_axes_follow_our_convention(panohead, cameras):
    """The off-axis ball appears where our cameras project it, with the expected depth and size."""
    head = panohead.sample(2)
    views = panohead.render(head, cameras, SIDE)
    where, depth = project(cameras, np.array([CENTRE]))
    for index in range(len(cameras)):
        share = views.mask[index] / 255.0
        rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
        seen = [(share * columns).sum() / share.sum() / SIDE, (share * rows).sum() / share.sum() / SIDE]
        np.testing.assert_allclose(seen, where[index, 0], atol=0.25 / SIDE)
        radius = ball_radius(panohead, head)
        nearest = np.nanmin(views.depth[index])
        assert abs(nearest - (depth[index, 0] - radius)) < 0.01
        pixels = np.pi * (radius * 4.2647 / depth[index, 0] * SIDE) ** 2
        assert abs(share.sum() / pixels - 1) < 0.03


def test_density_has_the_same_axes(panohead):
    """The mesh of the density at level 10 is the ball."""
    head = panohead.sample(2)
    mesh = mesh_head(panohead, head, MeshParams(resolution=48, level=10.0))
    distances = np.linalg.norm(mesh.vertices - np.array(CENTRE), axis=1)
    np.testing.assert_allclose(distances, ball_radius(panohead, head), atol=1e-3)


def test_density_is_raw_and_noiseless(panohead):
    """Sigma is not clipped, the checkpoint's density noise is off, and density outside the cube is -1000."""
    head = panohead.sample(3)
    points = np.array([CENTRE, (0.5, 0.5, 0.5), (-0.5, -0.2, 0.0), (0.6, 0.0, 0.0)], np.float32)
    expected = 10 + 100 * (ball_radius(panohead, head) - np.linalg.norm(points - np.array(CENTRE), axis=1))
    np.testing.assert_allclose(panohead.density(head, points), [*expected[:3], -1000.0], rtol=1e-4)
    np.testing.assert_array_equal(panohead.density(head, points), panohead.density(head, points))


def test_planes_are_computed_once_per_head(panohead, checkout, cameras):
    """All views and the density of a head share one backbone run, with constant noise and half precision."""
    before = len(calls(checkout, "planes"))
    heads = [panohead.sample(100), panohead.sample(101)]
    for head in (*heads, *heads):
        panohead.render(head, cameras, SIDE)
        panohead.density(head, np.zeros((3, 3), np.float32))
    made = [(call["noise_mode"], call["force_fp32"]) for call in calls(checkout, "planes")[before:]]
    assert made == [("const", False)] * 2


def test_heads_are_conditioned_on_the_frontal_camera(panohead, checkout, cameras):
    """The mapping receives the frontal camera, whatever the rendered views, and the truncation of the options."""
    panohead.render(panohead.sample(200), cameras[[2]], SIDE)
    call = calls(checkout, "mapping")[-1]
    front = orbit([0.0], [0.0])
    np.testing.assert_allclose(call["label"][:16], front.cam2world.ravel(), atol=1e-6)
    np.testing.assert_allclose(call["label"][16:], front.intrinsics.ravel(), atol=1e-6)
    assert (call["psi"], call["cutoff"]) == (0.7, 14)


def test_a_view_depends_only_on_its_head_and_camera(panohead, cameras):
    """Despite random ray samples, a view is bit-identical alone, in a batch, after other heads and sizes, and from a
    restarted process."""
    head, other = panohead.sample(7), panohead.sample(8)
    together = panohead.render(head, cameras, SIDE)
    panohead.render(other, cameras[[1]], SIDE // 2)
    alone = panohead.render(head, cameras[[2]], SIDE)
    panohead.close()
    again = panohead.render(head, cameras[[3, 2]], SIDE)
    for name in ("rgb", "mask", "depth"):
        np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[2])
        np.testing.assert_array_equal(getattr(again, name)[1], getattr(together, name)[2])
    assert not np.array_equal(panohead.render(other, cameras[[2]], SIDE).rgb, alone.rgb)


def test_the_generators_background_is_removed(panohead, cameras):
    """Pixels outside the head are white, although the network paints them red, and have NaN depth."""
    views = panohead.render(panohead.sample(4), cameras, SIDE)
    empty = views.mask == 0
    assert empty.mean() > 0.5
    assert (views.rgb[empty] == 255).all()
    assert np.isnan(views.depth[views.mask < 126]).all()
    assert np.isfinite(views.depth[views.mask > 129]).all()


def test_pictures_are_composited_on_white():
    """Known values: image * alpha + 1 - alpha with alpha clamped; downscaling takes the mean."""
    import torch

    image, mask = torch.full((1, 3, 4, 4), 0.2), torch.full((1, 1, 2, 2), 0.25)
    picture, alpha = on_white(image, mask, 4)
    torch.testing.assert_close(picture, torch.full((1, 3, 4, 4), 0.2 * 0.25 + 0.75))
    torch.testing.assert_close(alpha, torch.full((1, 1, 4, 4), 0.25))
    picture, alpha = on_white(image, torch.full((1, 1, 4, 4), 1.001), 2)
    torch.testing.assert_close(picture, image[..., :2, :2])
    torch.testing.assert_close(alpha, torch.ones(1, 1, 2, 2))


def test_depth_is_along_the_optical_axis():
    """A plane facing the camera has one depth, although rays towards the corners are longer."""
    import torch

    cameras = orbit([0.0], [0.0])
    intrinsics = torch.from_numpy(cameras.intrinsics[0])
    middle = (torch.arange(8) + 0.5) / 8
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    rays = torch.stack([(x - 0.5) / intrinsics[0, 0], (y - 0.5) / intrinsics[1, 1], torch.ones_like(x)])
    distance = 2.5 * rays.norm(dim=0)
    depth = axial_depth(distance[None, None], torch.ones(1, 1, 8, 8), intrinsics, 8)
    torch.testing.assert_close(depth, torch.full((1, 1, 8, 8), 2.5))


def test_learned_offset_moves_the_head_not_the_cameras(checkout, network, cameras):
    """The learned offset shifts pictures and density together. The conditioning azimuth reaches the mapping, full
    precision reaches the backbone, and the checkout's own classes can be used."""
    generator = make(
        checkout=checkout, network=network, trust=True, device="cpu",
        learned_offset=True, conditioning_azimuth_deg=90.0, half_precision=False, code="checkout", neural_resolution=32,
    )  # fmt: skip
    head, moved = generator.sample(2), np.array(CENTRE) - np.array(OFFSET)
    views = generator.render(head, cameras, SIDE)
    where, _ = project(cameras, moved[None])
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    share = views.mask[1] / 255.0
    seen = [(share * columns).sum() / share.sum() / SIDE, (share * rows).sum() / share.sum() / SIDE]
    np.testing.assert_allclose(seen, where[1, 0], atol=0.4 / SIDE)
    mesh = mesh_head(generator, head, MeshParams(resolution=48))
    distances = np.linalg.norm(mesh.vertices - moved, axis=1)
    np.testing.assert_allclose(distances, ball_radius(generator, head), atol=1e-3)
    label = calls(checkout, "mapping")[-1]["label"]
    np.testing.assert_allclose(label[:16], orbit([90.0], [0.0]).cam2world.ravel(), atol=1e-6)
    assert calls(checkout, "planes")[-1]["force_fp32"]
    generator.close()


def test_landmarks_come_from_the_options(panohead, checkout, network):
    """PanoHead has no landmarks of its own; the options may set common ones for all heads."""
    assert panohead.landmarks(panohead.sample(1)) is None
    five = [[-0.1, 0.1, 0.3], [0.1, 0.1, 0.3], [0.0, 0.0, 0.35], [-0.07, -0.1, 0.3], [0.07, -0.1, 0.3]]
    given = make(checkout=checkout, network=network, trust=True, landmarks=five)
    np.testing.assert_array_equal(given.landmarks(panohead.sample(1)), np.array(five, np.float32))


def test_fingerprint_covers_what_changes_heads(checkout, network, tmp_path):
    """Truncation, the source and the checkpoint change it; paths and runtime options do not."""
    source, weights = tmp_path / "elsewhere", tmp_path / "copy.pkl"
    shutil.copytree(checkout, source)
    shutil.copy(network, weights)
    first = make(checkout=checkout, network=network, trust=True)
    sha256 = first.provenance["network_sha256"]
    moved = make(checkout=source, network=weights, sha256=sha256, threads=2, device="cpu", timeout_s=5)
    assert moved.fingerprint == first.fingerprint
    found = {first.fingerprint, make(checkout=checkout, network=network, trust=True, truncation_psi=0.5).fingerprint}
    weights.write_bytes(network.read_bytes() + b"\0")
    found.add(make(checkout=checkout, network=weights, trust=True).fingerprint)
    edited = shutil.copytree(checkout, tmp_path / "edited")
    (edited / "training" / "triplane.py").write_text("# edited\n")
    found.add(make(checkout=edited, network=network, trust=True).fingerprint)
    assert len(found) == 4


def test_keys_do_not_depend_on_paths(checkout, network, tmp_path):
    """Artifact keys contain what decides heads, without paths and runtime options."""
    weights = tmp_path / "moved.pkl"
    shutil.copy(network, weights)
    source = shutil.copytree(checkout, tmp_path / "moved")
    keys = set()
    for options in (
        {"checkout": str(checkout), "network": str(network), "trust": True},
        {"checkout": str(source), "network": str(weights), "trust": True, "threads": 2, "device": "cpu"},
        {"checkout": str(checkout), "network": str(network), "trust": True, "truncation_psi": 0.6},
    ):
        config = GeneratorConfig(name="panohead", options=options)
        sections = SampleSections(generator=config, sample=SampleParams())
        keys.add(SAMPLE.key(Head(id="panohead-000001", seed=1), sections, {}))
        assert "/" not in str(generator_record(config)["options"])
    assert len(keys) == 2
    assert generator_record(config)["provenance"]["network"] == "network.pkl"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncation_psi": -1}, "truncation_psi"),
        ({"device": "tpu"}, "device"),
        ({"landmarks": [[0, 0, 0]]}, "landmarks"),
        ({"sha256": "abc"}, "sha256"),
        ({"steps": 0}, "steps"),
        ({"psi": 0.7}, "psi"),
        ({"checkout": "/nowhere"}, "expected a checkout of PanoHead"),
        ({"network": "/nowhere.pkl"}, "expected a PanoHead checkpoint"),
    ],
)
def test_invalid_options_are_named(checkout, network, options, message):
    """An invalid option is refused by name before any process starts."""
    with pytest.raises(ValueError, match=message):
        make(**{"checkout": checkout, "network": network, "trust": True, **options})


@pytest.mark.parametrize(
    ("view", "resolution", "message"),
    [(orbit([0.0], [0.0], radius=2.0), SIDE, r"views\.radius"), (orbit([0.0], [0.0]), SIDE + 1, "at most 64")],
)
def test_unsupported_views_are_refused(panohead, view, resolution, message):
    """Cameras outside the range of its rays, and pictures larger than the network's, are ConfigErrors."""
    with pytest.raises(ConfigError, match=message):
        panohead.render(panohead.sample(1), view, resolution)


def test_another_box_warp_is_refused(checkout, network):
    """A `box_warp` other than the network's is an error that gives both values."""
    generator = make(checkout=checkout, network=network, trust=True, box_warp=2.0)
    with pytest.raises(ConfigError, match=r"expected 1, the side of this network's cube, found 2\.0"):
        generator.sample(1)
