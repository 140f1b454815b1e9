"""Normal maps by ray casting on a CPU with Embree (through embreex)."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from embreex.mesh_construction import TriangleMesh as EmbreeGeometry
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Bool, Float32, Float64

from spinmeround.models.geometry.cameras import Cameras, pixel_rays
from spinmeround.models.geometry.meshes import vertex_normals
from spinmeround.models.geometry.renderers import FINGERPRINTS
from spinmeround.storage.records import NormalMaps, TriangleMesh


class EmbreeNormalRenderer:
    """Traces all rays of a view at once and several views in parallel; embreex releases the GIL while tracing."""

    fingerprint = FINGERPRINTS["embree"]

    def __init__(self, *, threads: int = 0) -> None:
        """`threads` is the number of views traced in parallel; 0 uses all cores."""
        if threads < 0:
            raise ValueError(f"threads: expected 0 (all cores) or more, got {threads}")
        self.threads = threads or os.cpu_count() or 1

    def render(self, mesh: TriangleMesh, cameras: Cameras, resolution: int) -> NormalMaps:
        """World-frame normals at the pixel centres of all cameras."""
        scene = embree_scene(mesh)
        at_vertices = vertex_normals(mesh)
        normals = np.zeros((len(cameras), resolution, resolution, 3), np.float32)
        hit = np.zeros((len(cameras), resolution, resolution), bool)

        def render_view(view: int) -> None:
            normals[view], hit[view] = _trace(scene, mesh, at_vertices, cameras[[view]], resolution)

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(render_view, range(len(cameras))))
        return NormalMaps(normals=normals, hit=hit)


def embree_scene(mesh: TriangleMesh) -> EmbreeScene:
    """The acceleration structure of a mesh; safe to trace from several threads."""
    scene = EmbreeScene()
    EmbreeGeometry(scene, np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces))
    scene.run(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))  # builds the structure before threads share it
    return scene


def _trace(
    scene: EmbreeScene,
    mesh: TriangleMesh,
    at_vertices: Float64[np.ndarray, "vertex 3"],
    camera: Cameras,
    resolution: int,
) -> tuple[Float32[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    origins, directions = pixel_rays(camera, resolution)
    found = scene.run(
        np.ascontiguousarray(origins.reshape(-1, 3)), np.ascontiguousarray(directions.reshape(-1, 3)), output=True
    )
    hit = found["primID"] >= 0
    u, v = found["u"][hit, None].astype(np.float64), found["v"][hit, None].astype(np.float64)
    a, b, c = (at_vertices[corner] for corner in mesh.faces[found["primID"][hit]].T)
    blended = (1 - u - v) * a + u * b + v * c
    normals = np.zeros((resolution**2, 3), np.float32)
    normals[hit] = blended / np.maximum(np.linalg.norm(blended, axis=-1, keepdims=True), 1e-12)
    return normals.reshape(resolution, resolution, 3), hit.reshape(resolution, resolution)
