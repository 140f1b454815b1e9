"""The bridge compared with the original sources of PanoHead and SphereHead on random weights at small and full size.

`SPINMEROUND_PANOHEAD` and `SPINMEROUND_SPHEREHEAD` are the paths of the checkouts. The reference runs in a separate
process and repeats `gen_samples.py` with the checkout's camera, label, mapping and synthesis, with three differences:
the device and the noise mode are fixed, torch is seeded, and the field of view is 18.837 degrees, which the script
truncates to 18.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import orbit, pixel_rays
from spinmeround.panohead_bridge.panohead import make, make_spherehead, write_stub

CHECKOUTS = {name: os.environ.get(f"SPINMEROUND_{name.upper()}", "") for name in ("panohead", "spherehead")}
FACTORIES = {"panohead": make, "spherehead": make_spherehead}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED, YAW = 11, -0.7
_REFERENCE = """
import sys
checkout, network, target, seed, yaw = sys.argv[1:]
seed, yaw = int(seed), float(yaw)
sys.path[0] = checkout
import numpy as np, torch, legacy
from camera_utils import LookAtPoseSampler
from training.volumetric_rendering.ray_sampler import RaySampler
G = legacy.load_network_pkl(open(network, "rb"))["G_ema"].eval().requires_grad_(False)
pivot, radius = torch.tensor([0, 0, 0]), G.rendering_kwargs.get("avg_camera_radius", 2.7)
intrinsics = torch.tensor([[4.2647, 0, 0.5], [0, 4.2647, 0.5], [0, 0, 1]])
label = lambda pose: torch.cat([pose.reshape(-1, 16), intrinsics.reshape(-1, 9)], 1)
front = LookAtPoseSampler.sample(np.pi / 2, np.pi / 2, pivot, radius=radius)
pose = LookAtPoseSampler.sample(np.pi / 2 + yaw, np.pi / 2 - 0.2, pivot, radius=radius)
z = torch.from_numpy(np.random.RandomState(seed).randn(1, G.z_dim))
places = torch.from_numpy(np.load(target + ".points.npy"))[None]
with torch.no_grad():
    ws = G.mapping(z, label(front), truncation_psi=0.7, truncation_cutoff=14)
    torch.manual_seed(seed)
    out = G.synthesis(ws, label(pose), noise_mode="const")
    sigma = G.sample(places, torch.zeros_like(places), z, label(front), truncation_psi=0.7, truncation_cutoff=14,
                     noise_mode="const")["sigma"]
origins, rays = RaySampler()(pose, intrinsics[None], 16)
np.savez(target, pose=pose[0], image=out["image"][0], mask=out["image_mask"][0], sigma=sigma[0, :, 0],
         front=front[0], origins=origins[0], rays=rays[0])
"""


@pytest.fixture(scope="module", params=[(name, size) for name in CHECKOUTS for size in ("small", "full")], ids="-".join)
def pair(request, tmp_path_factory):
    """A generator on a random network, its query points, and the reference for the same head and camera."""
    name, size = request.param
    if not (checkout := CHECKOUTS[name]):
        pytest.skip(f"SPINMEROUND_{name.upper()} names no checkout of its source")
    place = tmp_path_factory.mktemp(size)
    network, target = place / "network.pkl", place / "reference.npz"
    sha256 = write_stub(Path(checkout), network, small=size == "small")
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (5000, 3)).astype(np.float32)
    np.save(f"{target}.points.npy", points)
    command = [sys.executable, "-c", _REFERENCE, checkout, network, target, str(SEED), str(YAW)]
    subprocess.run(list(map(str, command)), check=True)
    generator = FACTORIES[name](checkout=checkout, network=network, sha256=sha256, device="cpu")
    with np.load(target) as reference:
        yield generator, points, dict(reference)
    generator.close()


def test_views_and_density_equal_the_reference(pair):
    """Picture and mask equal the reference up to 8-bit rounding, sigma up to float32 tolerance."""
    generator, points, reference = pair
    head = generator.sample(SEED)
    position = reference["pose"][:3, 3] / np.linalg.norm(reference["pose"][:3, 3])
    azimuth, elevation = np.degrees(np.arctan2(position[0], position[2])), np.degrees(np.arcsin(position[1]))
    cameras = orbit([float(azimuth)], [float(elevation)])
    np.testing.assert_allclose(cameras.cam2world[0], reference["pose"], atol=2e-6)
    side = reference["image"].shape[-1]
    views = generator.render(head, replace(cameras, cam2world=reference["pose"][None]), side)
    rows = np.clip((np.arange(side) + 0.5) * reference["mask"].shape[-1] / side - 0.5, 0, None)
    alpha = np.clip(_bilinear(reference["mask"][0], rows), 0, 1)
    expected = (reference["image"] * alpha + 1 - alpha).transpose(1, 2, 0) * 127.5 + 127.5
    error = np.abs(views.rgb[0] - np.clip(expected, 0, 255)).max()
    print(f"picture: largest difference {error:.4f} of 255; covered {alpha.mean():.3f}")
    assert error < 0.51
    assert np.abs(views.mask[0] - alpha * 255).max() < 0.51
    sigma = generator.density(head, points)
    apart = np.abs(sigma - reference["sigma"]).max()
    print(f"sigma: {sigma.min():.2f} to {sigma.max():.2f}, largest difference {apart:.2e}")
    np.testing.assert_allclose(sigma, reference["sigma"], rtol=1e-4, atol=1e-3)


def test_cameras_and_rays_equal_the_reference(pair):
    """The reference's frontal camera is our view (0, 0), and its rays equal ours."""
    _, _, reference = pair
    front = orbit([0.0], [0.0])
    np.testing.assert_allclose(front.cam2world[0], reference["front"], atol=1e-6)
    origins, rays = pixel_rays(replace(front, cam2world=reference["pose"][None]), 16)
    np.testing.assert_allclose(origins.reshape(-1, 3), reference["origins"], atol=1e-6)
    np.testing.assert_allclose(rays.reshape(-1, 3), reference["rays"], atol=2e-6)


def _bilinear(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear samples of a square picture at pixel coordinates `places` x `places`; edge values extend outside."""
    low = np.minimum(np.floor(places).astype(int), len(values) - 1)
    high, share = np.minimum(low + 1, len(values) - 1), places - low
    rows = values[low] * (1 - share)[:, None] + values[high] * share[:, None]
    return rows[:, low] * (1 - share)[None] + rows[:, high] * share[None]
