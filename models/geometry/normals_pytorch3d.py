"""Normal maps by batched rasterisation with PyTorch3D, on a GPU where there is one."""

import importlib.util

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.meshes import vertex_normals
from spinmeround.storage.records import NormalMaps, TriangleMesh

HOW_TO_BUILD = (
    "There are no wheels for current torch: clone github.com/facebookresearch/pytorch3d, replace -std=c++17 by "
    "-std=c++20 in its setup.py and run `FORCE_CUDA=1 pip install --no-build-isolation .` in it (with the CUDA "
    "compiler of torch's own CUDA version), or use the Embree renderer"
)


def pytorch3d_problem(*, gpu: bool) -> str | None:
    """Why PyTorch3D cannot be used here (on a GPU, where one is asked for), or None where it can."""
    if importlib.util.find_spec("pytorch3d") is None:
        return f"PyTorch3D is not installed. {HOW_TO_BUILD}"
    if gpu and not torch.cuda.is_available():
        return "torch sees no GPU"
    try:
        importlib.import_module("pytorch3d._C")
    except ImportError as error:
        return f"PyTorch3D is installed but does not load ({error}). {HOW_TO_BUILD}"
    return None


_EDGE_WIDTH = 1e-5
"""Pixels so near to a face, in units of half the picture's side, are in it. PyTorch3D counts a pixel exactly on an edge
to neither face, and a camera along an axis of the grid sees through the diagonals of its cells."""


class PyTorch3DNormalRenderer:
    """Rasterises some views of the mesh at a time; the nearest face at each pixel's centre is interpolated."""

    fingerprint = "PyTorch3DNormalRenderer 2"

    def __init__(self, *, device: str | None = None, views_at_once: int = 8) -> None:
        """Takes the GPU where there is one, unless `device` names another.

        Raises:
            ValueError: if PyTorch3D cannot be imported; the text says how to build it.
        """
        problem = pytorch3d_problem(gpu=False)
        if problem:
            raise ValueError(f"normals.renderer = pytorch3d: {problem}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.views_at_once = views_at_once

    def render(self, mesh: TriangleMesh, cameras: Cameras, resolution: int) -> NormalMaps:
        """World normals at the pixels' centres of all cameras."""
        groups = np.array_split(np.arange(len(cameras)), max(1, -(-len(cameras) // self.views_at_once)))
        parts = [self._render_group(mesh, cameras[views], resolution) for views in groups]
        return NormalMaps(
            normals=np.concatenate([part.normals for part in parts]), hit=np.concatenate([part.hit for part in parts])
        )

    def _render_group(self, mesh: TriangleMesh, cameras: Cameras, resolution: int) -> NormalMaps:
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
    """PyTorch3D's cameras (x left, y up, z forward, row vectors) from ours (x right, y down, z forward)."""
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
