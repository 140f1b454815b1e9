"""Gaussians to begin with: flat ones on a surface, in the colours of the views that see it."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.spatial import cKDTree
from trimesh.sample import sample_surface

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.colours import vertex_colours
from spinmeround.models.geometry.meshes import as_trimesh
from spinmeround.models.reconstruction.gaussians import Gaussians, harmonics_of_colours
from spinmeround.storage.records import TriangleMesh

OPACITY = 0.8
"""A surface is nearly opaque; 3DGS begins with 0.1, because its points need not lie on one."""
FLATNESS = 0.3
"""Scale across the surface, in units of that along it."""
NEIGHBOURS = 3
"""Neighbours whose mean distance determines the scale, as in 3DGS."""
WIDTH = 0.6
"""Scale along the surface, in units of that distance; larger ones reach far beyond the outline of the head."""


def gaussians_on_mesh(
    mesh: TriangleMesh,
    cameras: Cameras,
    rgb: UInt8[np.ndarray, "view height width 3"],
    mask: UInt8[np.ndarray, "view height width"],
    *,
    number: int,
    degree: int = 0,
    seed: int = 0,
) -> Gaussians:
    """`number` Gaussians at random places of a surface, uniform over its area.

    Raises:
        ValueError: if the views show no vertex of the mesh.
    """
    solid = as_trimesh(mesh)
    points, faces = sample_surface(solid, number, seed=seed)
    colours = vertex_colours(mesh, cameras, rgb, mask)[mesh.faces[faces]].mean(axis=1) / 255
    distances = cKDTree(points).query(points, k=NEIGHBOURS + 1)[0][:, 1:].mean(axis=1).clip(1e-5)
    scales = WIDTH * distances[:, None] * np.array([1.0, 1.0, FLATNESS])
    return Gaussians(
        means=torch.tensor(points, dtype=torch.float32),
        quaternions=torch.tensor(_towards(solid.face_normals[faces]), dtype=torch.float32),
        log_scales=torch.tensor(np.log(scales), dtype=torch.float32),
        opacity_logits=torch.full((number,), float(np.log(OPACITY / (1 - OPACITY)))),
        harmonics=harmonics_of_colours(torch.tensor(colours, dtype=torch.float32), degree),
    )


def _towards(normals: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 4"]:
    """Quaternions (w, x, y, z) that turn the z axis to unit normals, by the shortest way."""
    x, y, z = normals.T
    turned = np.stack([1 + z, -y, x, np.zeros_like(z)], axis=-1)
    opposite = z < -1 + 1e-9  # half a turn round x
    return np.where(opposite[:, None], np.array([0.0, 1.0, 0.0, 0.0]), turned)
