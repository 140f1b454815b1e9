"""Depths of a mesh by ray casting with Embree."""

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras, pixel_rays
from spinmeround.models.geometry.normals_embree import embree_scene
from spinmeround.storage.records import TriangleMesh


def mesh_depth(mesh: TriangleMesh, cameras: Cameras, resolution: int) -> Float32[np.ndarray, "view height width"]:
    """Distances along the camera z axis at all pixel centres, NaN where the ray hits nothing."""
    scene = embree_scene(mesh)
    origins, directions = pixel_rays(cameras, resolution)
    found = scene.run(*(np.ascontiguousarray(each.reshape(-1, 3)) for each in (origins, directions)), output=True)
    along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
    distance = np.where(found["primID"] >= 0, found["tfar"], np.nan).reshape(along.shape)
    return np.asarray(distance * along, np.float32)
