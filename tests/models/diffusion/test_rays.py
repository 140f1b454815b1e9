import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from spinmeround.models.diffusion.params import RayEncoding
from spinmeround.models.diffusion.rays import encode_rays, ray_channels, reference_view
from spinmeround.models.geometry.cameras import Cameras, orbit, pixel_rays
from tests.models.diffusion.networks import poses

pytestmark = pytest.mark.fast
ENCODINGS: tuple[RayEncoding, ...] = ("spinmeround", "3dim", "plucker")


def encode(cameras: Cameras, encoding: RayEncoding, reference: int = 0, resolution: int = 4) -> torch.Tensor:
    """Rays of one group, [view channel height width]."""
    return encode_rays(
        torch.from_numpy(cameras.cam2world)[None],
        torch.from_numpy(cameras.intrinsics)[None],
        reference=torch.tensor([reference]),
        resolution=resolution,
        encoding=encoding,
    )[0]


def slow_encoding(cameras: Cameras, encoding: RayEncoding, reference: int, resolution: int) -> np.ndarray:
    """Reference in plain Python, pixel by pixel and frequency by frequency: [view height width channel]."""
    origins, directions = pixel_rays(cameras, resolution)
    pose = cameras.cam2world[reference].astype(np.float64)
    out = np.zeros((len(cameras), resolution, resolution, ray_channels(encoding)))
    head = pose[:3, :3].T @ -pose[:3, 3]
    for v, y, x in np.ndindex(out.shape[:3]):
        o = pose[:3, :3].T @ (origins[v, y, x].astype(np.float64) - pose[:3, 3])
        d = pose[:3, :3].T @ directions[v, y, x].astype(np.float64)
        if encoding == "plucker":
            out[v, y, x] = [*d, *np.cross(o, d)]
            continue
        row = []
        for vector, degrees in ((o, 15), (d, 8)):
            row += list(vector)
            row += [math.sin(2**k * c) for k in range(degrees) for c in vector]
            row += [math.cos(2**k * c) for k in range(degrees) for c in vector]
        if encoding == "spinmeround":
            a, b, c = o - head
            azimuth, elevation = math.atan2(a, -c), math.atan2(-b, math.hypot(a, c))
            row += [math.sin(azimuth), math.cos(azimuth), math.sin(elevation), math.cos(elevation)]
            row += [math.log(np.linalg.norm(o - head) / np.linalg.norm(head))]
        out[v, y, x] = row
    return out


@pytest.mark.parametrize(("encoding", "channels"), [("spinmeround", 149), ("3dim", 144), ("plucker", 6)])
def test_channel_counts(encoding: RayEncoding, channels: int) -> None:
    """149, 144 and 6 channels, as declared and as computed."""
    assert ray_channels(encoding) == channels
    assert encode(orbit([0.0, 90.0], [0.0, 0.0]), encoding).shape == (2, channels, 4, 4)


@pytest.mark.parametrize("reference", [0, 2])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_equals_slow_reference(encoding: RayEncoding, reference: int) -> None:
    """Every channel of every pixel equals a plain Python loop over `pixel_rays`. The highest frequencies amplify the
    float32 rounding of these rays to an error of about 0.01."""
    cameras = orbit([10.0, 130.0, -80.0], [0.0, 15.0, -30.0])
    expected = slow_encoding(cameras, encoding, reference, 3).transpose(0, 3, 1, 2)
    got = encode(cameras, encoding, reference, 3).numpy()
    np.testing.assert_allclose(got, expected, atol=2e-2)
    low = np.abs(got - expected).reshape(3, len(got[0]), -1).max(axis=(0, 2)) < 1e-4
    assert low.mean() > 0.8


@settings(max_examples=40, deadline=None)
@given(
    rotation=st.tuples(*[st.floats(-3, 3)] * 3),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    encoding=st.sampled_from(ENCODINGS),
    reference=st.integers(0, 3),
)
def test_rays_are_invariant_to_rigid_motion(
    rotation: tuple[float, ...], shift: tuple[float, ...], encoding: RayEncoding, reference: int
) -> None:
    """Cameras and head centre moved rigidly together give the same rays (in float64, where the rounding of the poses
    stays below the highest frequency)."""
    cam2world, intrinsics = (array.double() for array in poses(1, 4))
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = torch.from_numpy(Rotation.from_rotvec(rotation).as_matrix())
    motion[:3, 3] = torch.tensor(shift, dtype=torch.float64)
    options = {"reference": torch.tensor([reference]), "resolution": 4, "encoding": encoding}
    before = encode_rays(cam2world, intrinsics, **options)
    after = encode_rays(motion @ cam2world, intrinsics, centre=motion[None, :3, 3], **options)
    torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


@settings(max_examples=20, deadline=None)
@given(azimuth=st.floats(-180, 180), elevation=st.floats(-30, 30))
def test_relative_angles_of_an_orbit(azimuth: float, elevation: float) -> None:
    """For a reference at elevation 0, the five channels encode the azimuth difference, the elevation and the log ratio
    of radii, at every pixel."""
    reference, other = orbit([35.0], [0.0]), orbit([35.0 + azimuth], [elevation], radius=5.4)
    cameras = Cameras(
        **{name: np.concatenate([getattr(reference, name), getattr(other, name)]) for name in vars(reference)}
    )
    angles = encode(cameras, "spinmeround")[1, 144:]
    az, el = math.radians(azimuth), math.radians(elevation)
    expected = torch.tensor([math.sin(az), math.cos(az), math.sin(el), math.cos(el), math.log(2)])
    torch.testing.assert_close(angles, expected[:, None, None].expand(-1, 4, 4), atol=1e-5, rtol=0)


def test_the_reference_view_is_the_origin() -> None:
    """In its own frame the reference camera is at 0, looks along +z, and has relative angles 0 and radius ratio 1."""
    rays = encode(orbit([77.0], [-15.0]), "spinmeround", resolution=5)[0]
    origin, direction, angles = rays[:3], rays[93:96, 2, 2], rays[144:, 0, 0]
    torch.testing.assert_close(origin, torch.zeros(3, 5, 5), atol=1e-6, rtol=0)
    torch.testing.assert_close(direction, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(angles, torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]), atol=1e-6, rtol=0)


def test_plucker_coordinates_are_consistent() -> None:
    """Directions have unit length and are perpendicular to their moments."""
    rays = encode(orbit([0.0, 60.0, 190.0], [0.0, 10.0, -20.0]), "plucker")
    directions, moments = rays[:, :3], rays[:, 3:]
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(3, 4, 4))
    torch.testing.assert_close((directions * moments).sum(1), torch.zeros(3, 4, 4), atol=1e-5, rtol=0)


def test_samples_of_a_batch_are_independent() -> None:
    """A sample's rays do not depend on other samples' cameras or references."""
    cam2world, intrinsics = poses(3, 4)
    reference = torch.tensor([0, 3, 1])
    together = encode_rays(cam2world, intrinsics, reference=reference, resolution=4)
    for i in range(3):
        alone = encode_rays(cam2world[i : i + 1], intrinsics[i : i + 1], reference=reference[i : i + 1], resolution=4)
        torch.testing.assert_close(together[i], alone[0])


def test_reference_is_the_first_conditioning_view() -> None:
    """Index of the first conditioning view, or 0 without one."""
    is_conditioning = torch.tensor([[False, True, True], [False, False, False], [True, False, False]])
    assert reference_view(is_conditioning).tolist() == [1, 0, 0]


def test_unknown_encoding_is_refused() -> None:
    """The error lists the available encodings."""
    with pytest.raises(ValueError, match="expected one of spinmeround, 3dim, plucker, got 'fourier'"):
        ray_channels("fourier")
