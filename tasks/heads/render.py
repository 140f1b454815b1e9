"""Render: RGB and mask of a head from every camera of the view grid.

Artifact: a Zarr group of one head with rgb and mask, in the layout of the dataset, which takes the files over.
"""

from pydantic import Field

from spinmeround.storage.dataset import PixelCodec, write_pictures
from spinmeround.tasks.heads.generator import generator_of, load_identity
from spinmeround.tasks.stage import Stage, StageJob, StageParams


class RenderParams(StageParams):
    """The pictures' size and how they are compressed, which the normal maps share."""

    resolution: int = Field(64, ge=8, le=2048, description="Side of a picture in pixels")
    codec: PixelCodec = Field(PixelCodec(), description="How pixels are compressed, without loss")


def _make(job: StageJob) -> None:
    identity = load_identity(job.inputs["sample"])
    cameras = job.sections["views"].cameras()
    params: RenderParams = job.sections["render"]
    views = generator_of(job.sections).render(identity, cameras, params.resolution)
    write_pictures(job.out, job.head.id, params.codec, rgb=views.rgb, mask=views.mask)


RENDER = Stage(name="render", version=2, reads=("generator", "views", "render"), inputs=("sample",), make=_make)
