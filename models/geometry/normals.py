"""Normal maps of a mesh: the renderer interface, and processing of the maps.

A renderer casts one ray through each pixel centre and interpolates the vertex normals (`meshes.vertex_normals`) at the
first intersection with the mesh, so interpolation is perspective-correct. Normals are unit vectors in the world frame,
zero where no surface is hit.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.ndimage import distance_transform_edt

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals_embree import EmbreeNormalRenderer
from spinmeround.models.geometry.renderers import select_renderer
from spinmeround.storage.records import NormalMaps, TriangleMesh

BACKGROUND = 128
"""Value of all three channels of an encoded normal map in the background."""


@runtime_checkable
class NormalRenderer(Protocol):
    """Renders normal maps; equal meshes and cameras give bit-identical maps."""

    fingerprint: str
    """Identifies the renderer in artifact keys; changes whenever its output does."""

    def render(self, mesh: TriangleMesh, cameras: Cameras, resolution: int) -> NormalMaps:
        """World-frame normals at the pixel centres of all cameras."""


def make_normal_renderer(name: str = "auto", *, threads: int = 0) -> NormalRenderer:
    """The renderer with this name; "auto" selects PyTorch3D if it and a GPU are available, Embree otherwise.

    `threads` is the number of Embree threads; 0 uses all cores.

    Raises:
        ValueError: if the name is unknown, or PyTorch3D is requested and cannot be imported.
    """
    if select_renderer(name) == "embree":
        return EmbreeNormalRenderer(threads=threads)
    from spinmeround.models.geometry.normals_pytorch3d import PyTorch3DNormalRenderer  # torch is slow to import

    return PyTorch3DNormalRenderer()


def world_normals_to_camera(
    normals: Float[np.ndarray, "view height width 3"], cameras: Cameras
) -> Float32[np.ndarray, "view height width 3"]:
    """The same vectors in each camera's axes (x right, y down, z forward); normals facing the camera have z < 0."""
    turned: np.ndarray = np.einsum("vji,vhwj->vhwi", cameras.cam2world[:, :3, :3], normals)
    return turned.astype(np.float32)


def fill_normals_under_mask(
    normals: Float32[np.ndarray, "view height width 3"],
    hit: Bool[np.ndarray, "view height width"],
    mask: UInt8[np.ndarray, "view height width"],
) -> Float32[np.ndarray, "view height width 3"]:
    """Normals for all pixels with a nonzero mask, zero elsewhere.

    A masked pixel without a hit at its centre (the anti-aliased outline) copies the normal of the nearest hit.

    Raises:
        ValueError: if a view has a mask but no hits, that is, mesh and image are inconsistent.
    """
    touched = mask > 0
    for view in np.flatnonzero(touched.any((1, 2)) & ~hit.any((1, 2))):
        raise ValueError(f"normals: view {view} has a mask but no mesh in view; mesh and image are inconsistent")
    filled = np.zeros_like(normals)
    for view in np.flatnonzero(touched.any((1, 2))):
        row, column = distance_transform_edt(~hit[view], return_distances=False, return_indices=True)
        filled[view] = np.where(touched[view, ..., None], normals[view, row, column], 0.0)
    return filled


def encode_normals(
    normals: Float[np.ndarray, "*batch height width 3"], mask: UInt8[np.ndarray, "*batch height width"]
) -> UInt8[np.ndarray, "*batch height width 3"]:
    """Normals as bytes, round((n + 1) / 2 * 255); (128, 128, 128) where the mask is 0."""
    encoded = np.round((np.clip(normals, -1.0, 1.0) + 1.0) / 2.0 * 255.0).astype(np.uint8)
    return np.where(mask[..., None] > 0, encoded, np.uint8(BACKGROUND))


def decode_normals(
    encoded: UInt8[np.ndarray, "*batch height width 3"], mask: UInt8[np.ndarray, "*batch height width"]
) -> Float32[np.ndarray, "*batch height width 3"]:
    """Unit normals from bytes, zero where the mask is 0; within 0.4 degrees of the encoded normals."""
    normals = encoded.astype(np.float32) / 255.0 * 2.0 - 1.0
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    return np.where(mask[..., None] > 0, normals / np.maximum(length, 1e-6), np.float32(0.0))
