"""Splats and meshes of procedural heads, whose surface is known, from their true views.

The splats are scored on views that were not fitted, before and after the optimisation. The mesh is compared with the
visual hull that it begins with: distances of the vertices to the true surface, in units of the head's cube, and angles
of the normals in the held-out views. The neck below -0.3 is left out, where few views see the head.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import typer

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.hull import visual_hull
from spinmeround.models.geometry.meshes import density_grid, extract_mesh
from spinmeround.models.geometry.normals import encode_normals, fill_normals_under_mask
from spinmeround.models.geometry.normals_embree import EmbreeNormalRenderer
from spinmeround.models.geometry.params import MeshParams
from spinmeround.models.metrics.missing import Missing
from spinmeround.models.reconstruction.params import SplatParams
from spinmeround.models.reconstruction.refinement import follow_normals
from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.storage.records import Identity, TriangleMesh
from spinmeround.tasks.reconstruction.mesh import mesh_scores
from spinmeround.tasks.reconstruction.params import ReconstructParams
from spinmeround.tasks.reconstruction.run import splats_of
from spinmeround.tasks.reconstruction.scores import score
from spinmeround.tasks.reconstruction.views import PosedPictures, divided

MESH = MeshParams(resolution=160)
NECK = -0.3
_NO_LPIPS = Missing("not measured")

Row = Mapping[str, Any]


def true_views(generator: ProceduralGenerator, head: Identity, resolution: int) -> tuple[PosedPictures, PosedPictures]:
    """48 views to fit and 8 to hold out, with normals."""
    cameras = ViewGrid().cameras()
    fitted, held_out = divided(len(cameras), fitted=48, held_out=8)
    used = cameras[[*fitted, *held_out]]
    pictures = generator.render(head, used, resolution)
    grid = density_grid(lambda points: generator.density(head, points), generator.box_warp, MESH.resolution)
    maps = EmbreeNormalRenderer(threads=1).render(extract_mesh(grid, generator.box_warp, MESH), used, resolution)
    normals = encode_normals(fill_normals_under_mask(maps.normals, maps.hit, pictures.mask), pictures.mask)
    views = PosedPictures(cameras=used, rgb=pictures.rgb, mask=pictures.mask, normals=normals)
    return views[list(range(48))], views[list(range(48, 56))]


def surface_row(
    name: str, mesh: TriangleMesh, generator: ProceduralGenerator, head: Identity, views: PosedPictures
) -> Row:
    """Distances of a mesh to the true surface, and its scores in some views."""
    kept = mesh.vertices[mesh.vertices[:, 1] > NECK]
    distance = np.abs(generator.signed_distance(head, kept))
    return {
        "surface": name,
        "mean distance": float(distance.mean()),
        "95%": float(np.percentile(distance, 95)),
        "angle of the normals [degrees]": mesh_scores(mesh, views)["normal_angular_error_deg"],
    }


def main(
    seed: Annotated[int, typer.Option(min=0, help="Seed of the head.")] = 20_000_001,
    resolution: Annotated[int, typer.Option(min=32, help="Side of the pictures, in pixels.")] = 128,
    steps: Annotated[int, typer.Option(min=0, help="Steps of the optimisation.")] = 400,
) -> Mapping[str, Sequence[Row]]:
    """Reconstruct a head and compare with the truth."""
    generator = ProceduralGenerator()
    head = generator.sample(seed)
    fitted, held_out = true_views(generator, head, resolution)
    hull = visual_hull(fitted.cameras, fitted.mask, resolution=96)
    rows = []
    for number in sorted({0, steps}):
        began = time.perf_counter()
        params = ReconstructParams(splats=SplatParams(steps=number))
        splats = splats_of(fitted, hull, params, _NO_LPIPS)
        seconds = time.perf_counter() - began
        rows.append({"steps": number, "splats": len(splats), "seconds": seconds, **score(splats, held_out, _NO_LPIPS)})
    assert fitted.normals is not None
    mesh = follow_normals(hull, fitted.cameras, fitted.normals, fitted.mask)
    meshes = {"visual hull": replace(hull, normals=None), "mesh from hull and normals": mesh}
    return {
        "splats on held-out views": [{k: v for k, v in row.items() if v is not None} for row in rows],
        "surfaces": [surface_row(name, each, generator, head, held_out) for name, each in meshes.items()],
    }
