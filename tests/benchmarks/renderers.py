"""Agreement of the two normal map renderers, per view, on meshes of held-out procedural heads.

Requires PyTorch3D (docs/how-to/pytorch3d.md). The defaults are small because its rasteriser is slow on a CPU.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import typer

from spinmeround.models.geometry.meshes import density_grid, extract_mesh
from spinmeround.models.geometry.normals import make_normal_renderer
from spinmeround.models.geometry.params import MeshParams
from spinmeround.models.geometry.renderers import pytorch3d_problem
from spinmeround.models.metrics import normal_angular_error_deg
from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import NormalMaps, TriangleMesh
from tests.benchmarks.geometry import clean_generator, views_all_around

TARGETS = "targets: masks agree on >= 99.5% of the pixels, mean angle < 0.5 degrees"


def main(
    heads: Annotated[int, typer.Option(min=1, help="Number of held-out heads.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first head.")] = 20_000_000,
    resolution: Annotated[int, typer.Option(min=8, help="Samples of the density grid along each axis.")] = 128,
    pixels: Annotated[int, typer.Option(min=16, help="Side of the normal maps, in pixels.")] = 128,
    views: Annotated[int, typer.Option(min=1, help="Views per head, over all azimuths and elevations.")] = 4,
) -> Mapping[str, list[dict[str, Any]]]:
    """Render the same meshes with Embree and with PyTorch3D."""
    problem = pytorch3d_problem(gpu=False)
    if problem:
        raise ConfigError(f"bench renderers: {problem}")
    cameras, generator = views_all_around(views), clean_generator()
    renderers = {name: make_normal_renderer(name) for name in ("embree", "pytorch3d")}
    rows = []
    for seed in range(first_seed, first_seed + heads):
        mesh = mesh_of(generator, seed, resolution)
        ours, theirs = (renderer.render(mesh, cameras, pixels) for renderer in renderers.values())
        found = agreement(ours, theirs)
        places = zip(cameras.azimuth_deg, cameras.elevation_deg, strict=True)
        for row, (azimuth, elevation) in zip(found, places, strict=True):
            view = {"azimuth": float(azimuth), "elevation": float(elevation)}
            rows.append({"head": seed, "faces": len(mesh.faces), **view, **row})
    return {f"Embree and PyTorch3D, {resolution}^3 samples, {pixels} px ({TARGETS})": rows}


def mesh_of(generator: ProceduralGenerator, seed: int, resolution: int) -> TriangleMesh:
    """The mesh of a head, as in a build."""
    identity = generator.sample(seed)
    grid = density_grid(lambda points: generator.density(identity, points), generator.box_warp, resolution)
    return extract_mesh(grid, generator.box_warp, MeshParams(resolution=resolution))


def agreement(first: NormalMaps, second: NormalMaps) -> list[dict[str, Any]]:
    """Per view, the share of pixels with equal hits, and the angles between normals where both hit."""
    rows = []
    for view in range(len(first.hit)):
        one, other = first.hit[view], second.hit[view]
        error = normal_angular_error_deg(second.normals[view], first.normals[view], one & other)
        rows.append(
            {
                "masks agree [%]": 100.0 * float(np.mean(one == other)),
                "mean angle [deg]": float(error.mean),
                "p95 [deg]": float(error.percentile_95),
            }
        )
    return rows
