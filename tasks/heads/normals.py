"""Normals: normal maps of a mesh from every camera of the view grid.

The mask comes from the rendering and the normals from the mesh; their silhouettes differ by fractions of a pixel.
Pixels inside the mask that miss the mesh take the nearest normal; pixels of mask 0 are background.

Artifact: a Zarr group of one head with normals in the world frame, encoded as round((n + 1) / 2 * 255), background
128. It has the layout of the dataset, which links its file, and the compression of the rendering.
"""

from pydantic import Field

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import RendererName
from spinmeround.models.geometry.renderers import renderer_fingerprint, select_renderer
from spinmeround.storage.dataset import pictures_codec, read_pictures, write_pictures
from spinmeround.storage.numbers import check_varied
from spinmeround.tasks.heads.mesh import load_mesh
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections


class NormalsParams(StageParams):
    """Renderer of the normal maps. All renderers agree within their tolerance."""

    renderer: RendererName = Field(
        "auto", description="auto: PyTorch3D if it and a GPU are available, Embree otherwise"
    )


class NormalsSections(StageSections):
    """Sections that the normals stage reads."""

    views: ViewGrid
    normals: NormalsParams


def _make(job: StageJob[NormalsSections]) -> None:
    from spinmeround.models.geometry.normals import encode_normals, fill_normals_under_mask, make_normal_renderer

    render = job.inputs["render"]
    mask = read_pictures(render, "mask")["mask"]
    renderer = make_normal_renderer(job.sections.normals.renderer, threads=1)
    maps = renderer.render(load_mesh(job.inputs["mesh"]), job.sections.views.cameras(), mask.shape[1])
    normals = encode_normals(fill_normals_under_mask(maps.normals, maps.hit, mask), mask)
    check_varied(f"normals {job.head.id}", {"normals": normals})
    write_pictures(job.out, job.head.id, pictures_codec(render, "rgb"), normals=normals)


def _renderer_fingerprint(sections: NormalsSections) -> str:
    """Fingerprint of the renderer on this machine; two renderers differ in the last bits."""
    return renderer_fingerprint(sections.normals.renderer)


def _on_gpu(sections: NormalsSections) -> bool:
    return select_renderer(sections.normals.renderer) == "pytorch3d"


NORMALS = Stage(
    name="normals",
    version=3,
    sections_type=NormalsSections,
    inputs=("mesh", "render"),
    weights=_renderer_fingerprint,
    gpu=_on_gpu,
    make=_make,
)
