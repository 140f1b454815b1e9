"""Render: RGB and mask of a head from every camera of the view grid.

Artifact: `views.npz` with rgb (view, height, width, 3) and mask (view, height, width), both uint8.
"""

import numpy as np
from pydantic import Field

from tasks.generators import generator_of, load_identity
from tasks.stage import Stage, StageJob, StageParams


class RenderParams(StageParams):
    """The pictures' size, which the normal maps share."""

    resolution: int = Field(64, ge=8, le=2048, description="Side of a picture in pixels")


def _make(job: StageJob) -> None:
    identity = load_identity(job.inputs["sample"])
    cameras = job.sections["views"].cameras()
    views = generator_of(job.sections).render(identity, cameras, job.sections["render"].resolution)
    np.savez(job.out / "views.npz", rgb=views.rgb, mask=views.mask)


RENDER = Stage(name="render", version=1, reads=("generator", "views", "render"), inputs=("sample",), make=_make)
