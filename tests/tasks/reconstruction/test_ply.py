"""The .ply file of splats: in other programs' readers, and equal to gsplat's own export."""

import io
from dataclasses import fields

import numpy as np
import pytest
import torch
import trimesh
from gsplat import export_splats

from spinmeround.models.reconstruction.gaussians import Gaussians
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.reconstruction.ply import property_names, read_splats, splat_file
from tests.models.reconstruction.clouds import cloud


def some(degree: int) -> Gaussians:
    """Gaussians whose quaternions have unit length."""
    found = cloud(7, degree=degree, dtype=torch.float32)
    unit = torch.nn.functional.normalize(found.quaternions, dim=-1)
    return Gaussians(**{**{each.name: getattr(found, each.name) for each in fields(found)}, "quaternions": unit})


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_trimesh_reads_every_property(degree: int) -> None:
    """A third-party reader finds the names and values of 3DGS's layout."""
    gaussians = some(degree)
    scene = trimesh.load(io.BytesIO(splat_file(gaussians)), file_type="ply", process=False)
    data = scene.metadata["_ply_raw"]["vertex"]["data"]
    assert list(data.dtype.names) == property_names(degree)
    np.testing.assert_array_equal(scene.vertices, gaussians.means.numpy())
    np.testing.assert_array_equal(data["opacity"].ravel(), gaussians.opacity_logits.numpy())
    for axis in range(3):
        np.testing.assert_array_equal(data[f"scale_{axis}"].ravel(), gaussians.log_scales[:, axis].numpy())
        np.testing.assert_array_equal(data[f"f_dc_{axis}"].ravel(), gaussians.harmonics[:, 0, axis].numpy())
    for number in range(4):
        np.testing.assert_allclose(data[f"rot_{number}"].ravel(), gaussians.quaternions[:, number], rtol=1e-6)


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_the_file_is_gsplats_export(degree: int) -> None:
    """Byte for byte in the values that gsplat writes, whose header has normals only if it is given any."""
    gaussians = some(degree)
    exported = export_splats(
        gaussians.means,
        gaussians.log_scales,
        gaussians.quaternions,
        gaussians.opacity_logits,
        gaussians.harmonics[:, :1],
        gaussians.harmonics[:, 1:],
        format="ply",
    )
    theirs, ours = (
        trimesh.load(io.BytesIO(each), file_type="ply", process=False).metadata["_ply_raw"]["vertex"]["data"]
        for each in (exported, splat_file(gaussians))
    )
    assert set(ours.dtype.names) - set(theirs.dtype.names) <= {"nx", "ny", "nz"}
    assert len(theirs.dtype.names) > 10
    for name in theirs.dtype.names:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)


def test_a_file_is_read_back() -> None:
    """All parameters survive, quaternions up to their length."""
    gaussians = cloud(9, degree=2, dtype=torch.float32)
    found = read_splats(splat_file(gaussians))
    for name in ("means", "log_scales", "opacity_logits", "harmonics"):
        assert torch.equal(getattr(found, name), getattr(gaussians, name))
    torch.testing.assert_close(found.quaternions, torch.nn.functional.normalize(gaussians.quaternions, dim=-1))


def test_numbers_that_are_not_finite_are_refused() -> None:
    """No file with NaN is written."""
    gaussians = cloud(3, dtype=torch.float32)
    gaussians.means[1, 2] = torch.nan
    with pytest.raises(SpinMeRoundError, match="splats"):
        splat_file(gaussians)
