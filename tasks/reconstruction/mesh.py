"""The mesh of a reconstruction: the visual hull, moved so that it follows the normals, with colours of the views."""

from pathlib import Path

import numpy as np

from spinmeround.models.geometry.colours import vertex_colours
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.geometry.normals_embree import EmbreeNormalRenderer
from spinmeround.models.metrics.geometry import mask_iou, normal_angular_error_deg
from spinmeround.models.reconstruction.refinement import follow_normals
from spinmeround.storage.records import TriangleMesh
from spinmeround.tasks.exchange.mesh_files import mesh_file
from spinmeround.tasks.reconstruction.files import MESHES
from spinmeround.tasks.reconstruction.views import PosedPictures


def write_mesh(hull: TriangleMesh, fitted: PosedPictures, held_out: PosedPictures, out: Path) -> dict[str, float]:
    """Make the mesh from the fitted views, which have normals, and write it; returns its scores on the held-out views.

    Raises:
        ValueError: if the views show no vertex of the hull.
    """
    assert fitted.normals is not None
    mesh = follow_normals(hull, fitted.cameras, fitted.normals, fitted.mask)
    colours = vertex_colours(mesh, fitted.cameras, fitted.rgb, fitted.mask)
    for name in MESHES:
        (out / name).write_bytes(mesh_file(mesh, colours, Path(name).suffix))
    return mesh_scores(mesh, held_out)


def mesh_scores(mesh: TriangleMesh, views: PosedPictures) -> dict[str, float]:
    """Angles between the mesh's normals and those of some views, where both have any, and overlap of the masks."""
    assert views.normals is not None
    maps = EmbreeNormalRenderer(threads=1).render(mesh, views.cameras, views.rgb.shape[1])
    given = decode_normals(views.normals, views.mask)
    both = maps.hit & (views.mask == 255) & (np.linalg.norm(given, axis=-1) > 0)
    return {
        "normal_angular_error_deg": normal_angular_error_deg(maps.normals, given, both).mean,
        "mask_iou": float(mask_iou(maps.hit, views.mask >= 128).mean()),
    }
