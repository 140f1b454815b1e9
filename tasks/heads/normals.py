"""Normals: maps of a mesh's normals from every camera of the view grid, as the dataset holds them.

The mask comes from the rendering and the normals from the mesh, whose silhouettes differ by parts of a
pixel: a pixel that only the mask touches takes the nearest normal, and mask 0 is background.

Artifact: a Zarr group of one head with normals, world frame, encoded as round((n + 1) / 2 * 255), background 128;
in the layout of the dataset, which takes the file over, and compressed as the rendering is.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from spinmeround.models.geometry.normals import (
    RendererName,
    encode_normals,
    fill_normals_under_mask,
    make_normal_renderer,
)
from spinmeround.storage.dataset import pictures_codec, read_pictures, write_pictures
from spinmeround.tasks.heads.mesh import load_mesh
from spinmeround.tasks.stage import Stage, StageJob, StageParams


class NormalsParams(StageParams):
    """Which renderer draws the maps; their output is equal within its tolerance."""

    renderer: RendererName = Field("auto", description="auto takes PyTorch3D where it and a GPU are there, else Embree")


def _make(job: StageJob) -> None:
    render = job.inputs["render"]
    mask = read_pictures(render, "mask")["mask"]
    renderer = make_normal_renderer(job.sections["normals"].renderer, threads=1)
    maps = renderer.render(load_mesh(job.inputs["mesh"]), job.sections["views"].cameras(), mask.shape[1])
    normals = encode_normals(fill_normals_under_mask(maps.normals, maps.hit, mask), mask)
    write_pictures(job.out, job.head.id, pictures_codec(render, "rgb"), normals=normals)


def _renderer(sections: Mapping[str, Any]) -> str:
    """The renderer that is used here: what two of them draw differs in its last bits."""
    return make_normal_renderer(sections["normals"].renderer).fingerprint


NORMALS = Stage(
    name="normals",
    version=2,
    reads=("views", "normals"),
    inputs=("mesh", "render"),
    weights=_renderer,
    make=_make,
)
