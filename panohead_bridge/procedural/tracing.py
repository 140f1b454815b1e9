"""Rendering a signed distance: a fine mesh finds the first hits, the distance itself makes them exact.

Per head, once: the distance on a grid, coarse everywhere and fine only near the surface; marching
cubes on it; and light at the mesh's vertices (it stands still in the world, so it belongs to the
surface, not to the view). Per ray: Embree's first hit, one Newton step on the exact distance, and the
exact colour there. A pixel is the mean of five rays, the first through its centre, which gives depth.
Work goes in fixed chunks of elementwise operations, so the result does not depend on threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import repeat
from embreex.mesh_construction import TriangleMesh as EmbreeMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Bool, Float, Float32, Int64, Shaped
from skimage.measure import marching_cubes
from torch import Tensor

from models.geometry.cameras import Cameras
from panohead_bridge.procedural.primitives import Points, Scalars

CHUNK = 32768
"""Points a step: they fit the cache."""

RAYS = 65536
SUBPIXELS = ((0.0, 0.0), (-0.125, -0.375), (0.375, -0.125), (0.125, 0.375), (-0.375, 0.125))
CELLS, BLOCK = 256, 4
STEP_LIMIT = 0.004

Distance = Callable[[Points], Scalars]
Shade = Callable[[Points], Float[Tensor, "4 point"]]
"""Signed distance, then red, green and blue (display-referred), of points near the surface."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps torch to the calling thread: chunks are too small to share, and workers share the cores already."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@one_thread()
def in_chunks(
    function: Callable[[Points], Tensor], points: Float32[np.ndarray, "point 3"]
) -> Shaped[np.ndarray, "*axis point"]:
    """`function` on all points, a chunk at a time, without gradients."""
    columns = torch.from_numpy(np.ascontiguousarray(points.T))
    with torch.inference_mode():
        results = [function(Points(*chunk.unbind(0))) for chunk in columns.split(CHUNK, dim=1)]
    return torch.cat(results, dim=-1).numpy() if results else np.zeros(0, np.float32)


@one_thread()
def gradient(distance: Distance, points: Float32[np.ndarray, "point 3"]) -> Float32[np.ndarray, "point 3"]:
    """The exact gradient of a signed distance, by automatic differentiation."""
    columns = torch.from_numpy(np.ascontiguousarray(points.T))
    slopes = []
    for chunk in columns.split(CHUNK, dim=1):
        leaf = chunk.contiguous().requires_grad_(True)
        slopes.extend(torch.autograd.grad(distance(Points(*leaf.unbind(0))).sum(), leaf))
    return torch.cat(slopes, dim=1).T.contiguous().numpy() if slopes else np.zeros((0, 3), np.float32)


def unit(vectors: Float32[np.ndarray, "*axis 3"]) -> Float32[np.ndarray, "*axis 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def narrow_band(distance: Distance) -> tuple[Float32[np.ndarray, "x y z"], Int64[np.ndarray, "3"]]:
    """The distance on the part of the cube's grid (CELLS + 1 points a side) that holds the head, and its corner.

    Blocks of BLOCK^3 points round the surface are exact; elsewhere the block's one coarse value stands.
    """
    axis = np.linspace(-0.5, 0.5, CELLS // BLOCK + 1, dtype=np.float32)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    coarse = in_chunks(distance, nodes.reshape(-1, 3)).reshape(nodes.shape[:3])
    near = np.argwhere(np.abs(coarse) < 1.6 * BLOCK / CELLS)
    first, last = near.min(axis=0), near.max(axis=0) + 1
    grid = coarse[tuple(slice(low, high) for low, high in zip(first, last, strict=True))]
    grid = repeat(grid, "x y z -> (x a) (y b) (z c)", a=BLOCK, b=BLOCK, c=BLOCK).copy()
    offset = np.stack(np.meshgrid(*[np.arange(BLOCK)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    fine = (near[:, None] * BLOCK + offset[None]).reshape(-1, 3)
    half = BLOCK // 2
    grid[tuple((fine - first * BLOCK).T)] = in_chunks(distance, ((fine - half) / CELLS - 0.5).astype(np.float32))
    return _cropped(grid, first * BLOCK - half)


def _cropped(
    grid: Float32[np.ndarray, "x y z"], corner: Int64[np.ndarray, "3"]
) -> tuple[Float32[np.ndarray, "u v w"], Int64[np.ndarray, "3"]]:
    """The grid cut to two points round its negative values and to the cube, and the new corner."""
    inside = np.argwhere(grid < 0.0)
    low = np.maximum(inside.min(axis=0) - 2, -corner)
    high = np.minimum(inside.max(axis=0) + 3, CELLS + 1 - corner)
    return np.ascontiguousarray(grid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]), corner + low


@dataclass(frozen=True)
class TracedSurface:
    """A head's mesh with its exact normals and the light on its vertices, ready for rays."""

    faces: Int64[np.ndarray, "face 3"]
    normals: Float32[np.ndarray, "vertex 3"]
    light: Float32[np.ndarray, "vertex 3"]
    scene: Any

    @staticmethod
    def of(distance: Distance, light: Callable[..., Float32[np.ndarray, "vertex 3"]]) -> "TracedSurface":
        crop, low = narrow_band(distance)
        vertices, faces, _, _ = marching_cubes(crop, 0.0, gradient_direction="ascent")
        vertices = ((vertices + low) / CELLS - 0.5).astype(np.float32)
        normals = unit(gradient(distance, vertices))
        scene = EmbreeScene()
        EmbreeMesh(scene, vertices, faces.astype(np.int32))
        return TracedSurface(faces.astype(np.int64), normals, light(distance, vertices, normals), scene)


@dataclass(frozen=True)
class Hits:
    """First hits of the rays `ray`, at `distance` along them."""

    ray: Int64[np.ndarray, " hit"]
    distance: Float32[np.ndarray, " hit"]
    normals: Float32[np.ndarray, "hit 3"]
    light: Float32[np.ndarray, "hit 3"]


def first_hits(surface: TracedSurface, origins: np.ndarray, directions: np.ndarray) -> Hits:
    found = surface.scene.run(origins, directions, query="INTERSECT", output=1)
    ray = np.flatnonzero(found["primID"] >= 0)
    corners = surface.faces[found["primID"][ray]]
    u, v = found["u"][ray], found["v"][ray]
    weights = np.stack([1.0 - u - v, u, v], axis=-1).astype(np.float32)
    normals = np.einsum("hc,hcd->hd", weights, surface.normals[corners])
    light = np.einsum("hc,hcd->hd", weights, surface.light[corners])
    return Hits(ray, found["tfar"][ray].astype(np.float32), unit(normals), light)


def rays(cameras: Cameras, resolution: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Chunks of (flat sample index, origins, directions); a direction's camera z is 1, so its length is depth.

    The flat index counts (view, row, column, subpixel).
    """
    inverse = np.linalg.inv(cameras.intrinsics.astype(np.float64))
    to_world = np.einsum("vij,vjk->vik", cameras.cam2world[:, :3, :3].astype(np.float64), inverse)
    offsets = np.asarray(SUBPIXELS)
    shape = (len(cameras), resolution, resolution, len(SUBPIXELS))
    for start in range(0, int(np.prod(shape)), RAYS):
        index = np.arange(start, min(start + RAYS, int(np.prod(shape))))
        view, row, column, sub = np.unravel_index(index, shape)
        x, y = (column + 0.5 + offsets[sub, 0]) / resolution, (row + 0.5 + offsets[sub, 1]) / resolution
        m = to_world[view]
        directions = m[:, :, 0] * x[:, None] + m[:, :, 1] * y[:, None] + m[:, :, 2]
        yield index, cameras.cam2world[view, :3, 3], directions.astype(np.float32)


@dataclass(frozen=True)
class Samples:
    """What the rays saw: linear light, whether anything was hit, and depth (NaN where nothing was)."""

    radiance: Float32[np.ndarray, "view height width subpixel 3"]
    hit: Bool[np.ndarray, "view height width subpixel"]
    depth: Float32[np.ndarray, "view height width subpixel"]


def trace(surface: TracedSurface, shade: Shade, cameras: Cameras, resolution: int) -> Samples:
    """Five samples of each pixel, white where nothing is hit."""
    shape = (len(cameras), resolution, resolution, len(SUBPIXELS))
    radiance = np.ones((int(np.prod(shape)), 3), np.float32)
    depth = np.full(int(np.prod(shape)), np.nan, np.float32)
    for index, origins, directions in rays(cameras, resolution):
        hits = first_hits(surface, origins, directions)
        if not len(hits.ray):
            continue
        along = directions[hits.ray]
        points = origins[hits.ray] + hits.distance[:, None] * along
        distance, *colour = in_chunks(shade, points)
        facing = np.minimum(np.einsum("hd,hd->h", hits.normals, along), -0.3)
        depth[index[hits.ray]] = hits.distance - np.clip(distance / facing, -STEP_LIMIT, STEP_LIMIT)
        radiance[index[hits.ray]] = np.square(np.stack(colour, axis=-1)) * hits.light
    return Samples(radiance.reshape(*shape, 3), np.isfinite(depth).reshape(shape), depth.reshape(shape))
