"""Normal maps by batched rasterisation with PyTorch3D, on a GPU if available."""

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.meshes import vertex_normals
from spinmeround.models.geometry.renderers import FINGERPRINTS, pytorch3d_problem
from spinmeround.storage.records import NormalMaps, TriangleMesh

_EDGE_WIDTH = 1e-5
"""Distance to a face, in units of half the image side, within which a pixel belongs to it. PyTorch3D assigns a pixel
exactly on an edge to neither face, which opens cracks along cell diagonals for cameras on an axis of the grid."""


class PyTorch3DNormalRenderer:
    """Rasterises the mesh in batches of views and interpolates the nearest face at each pixel centre."""

    fingerprint = FINGERPRINTS["pytorch3d"]

    def __init__(self, *, device: str | None = None, batch_size: int = 8) -> None:
        """Uses the GPU if available, unless `device` names another.

        Raises:
            ValueError: if PyTorch3D cannot be imported, with build instructions.
        """
        problem = pytorch3d_problem(gpu=False)
        if problem:
            raise ValueError(f"normals.renderer = pytorch3d: {problem}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = batch_size

    def render(self, mesh: TriangleMesh, cameras: Cameras, resolution: int) -> NormalMaps:
        """World-frame normals at the pixel centres of all cameras."""
        batches = np.array_split(np.arange(len(cameras)), max(1, -(-len(cameras) // self.batch_size)))
        parts = [self._render_batch(mesh, cameras[views], resolution) for views in batches]
        return NormalMaps(
            normals=np.concatenate([part.normals for part in parts]), hit=np.concatenate([part.hit for part in parts])
        )

    def _render_batch(self, mesh: TriangleMesh, cameras: Cameras, resolution: int) -> NormalMaps:
        from pytorch3d.ops import interpolate_face_attributes
        from pytorch3d.renderer import MeshRasterizer, RasterizationSettings
        from pytorch3d.structures import Meshes

        vertices = torch.from_numpy(mesh.vertices).to(self.device)
        faces = torch.from_numpy(mesh.faces).to(self.device, torch.int64)
        at_corners = torch.from_numpy(vertex_normals(mesh)).to(self.device, torch.float32)[faces]  # face corner 3
        settings = RasterizationSettings(
            image_size=resolution,
            blur_radius=_EDGE_WIDTH**2,
            faces_per_pixel=1,
            perspective_correct=True,
            cull_backfaces=False,
        )
        rasterizer = MeshRasterizer(_pytorch3d_cameras(cameras, resolution, self.device), settings)
        fragments = rasterizer(Meshes([vertices], [faces]).extend(len(cameras)))
        blended = interpolate_face_attributes(
            fragments.pix_to_face, fragments.bary_coords, at_corners.repeat(len(cameras), 1, 1)
        )
        hit = rearrange(fragments.pix_to_face >= 0, "view height width 1 -> view height width")
        normals = functional.normalize(rearrange(blended, "view height width 1 xyz -> view height width xyz"), dim=-1)
        return NormalMaps(normals=(normals * hit[..., None]).cpu().numpy(), hit=hit.cpu().numpy())


def _pytorch3d_cameras(cameras: Cameras, resolution: int, device: torch.device) -> object:
    """PyTorch3D cameras (x left, y up, z forward, row vectors) from OpenCV cameras (x right, y down, z forward)."""
    from pytorch3d.utils import cameras_from_opencv_projection

    cam2world = torch.from_numpy(cameras.cam2world).to(device)
    rotation = rearrange(cam2world[:, :3, :3], "view world camera -> view camera world")
    translation = -torch.einsum("vij,vj->vi", rotation, cam2world[:, :3, 3])
    pixels = torch.diag(torch.tensor([resolution, resolution, 1.0]))
    return cameras_from_opencv_projection(
        R=rotation,
        tvec=translation,
        camera_matrix=(pixels @ torch.from_numpy(cameras.intrinsics)).to(device),
        image_size=torch.full((len(cameras), 2), resolution, device=device),
    )
