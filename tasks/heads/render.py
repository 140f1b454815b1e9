"""Render: RGB and mask of a head from every camera of the view grid.

Artifact: a Zarr group of one head with rgb and mask, in the layout of the dataset, which links these files.
"""

from pydantic import Field

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.dataset import PixelCodec, write_pictures
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.numbers import check_varied
from spinmeround.tasks.heads.generator import generator_of, generator_on_gpu
from spinmeround.tasks.heads.sample_files import load_identity
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections


class RenderParams(StageParams):
    """Size and compression of the views; normal maps use the same."""

    resolution: int = Field(64, ge=8, le=2048, description="Side of a view, in pixels")
    codec: PixelCodec = Field(PixelCodec(), description="Lossless compression of the pixels")


class RenderSections(StageSections):
    """Sections that the render stage reads."""

    generator: GeneratorConfig
    views: ViewGrid
    render: RenderParams


def _on_gpu(sections: RenderSections) -> bool:
    return generator_on_gpu(sections.generator)


def _make(job: StageJob[RenderSections]) -> None:
    generator, params = generator_of(job.sections.generator), job.sections.render
    identity = load_identity(job.inputs["sample"])
    views = generator.render(identity, job.sections.views.cameras(), params.resolution)
    check_varied(f"render {job.head.id}", {"rgb": views.rgb})
    if not views.mask.any():
        raise SpinMeRoundError(f"render {job.head.id}: mask: expected a head, found none in any view")
    write_pictures(job.out, job.head.id, params.codec, rgb=views.rgb, mask=views.mask)


RENDER = Stage(name="render", version=3, sections_type=RenderSections, inputs=("sample",), gpu=_on_gpu, make=_make)
