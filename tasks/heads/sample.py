"""Sample: the identity of a seed and a cheap preview of the head, all that screening sees.

Artifact: `identity.npz` (seed, latent, landmarks where the generator knows them: (5, 3), world frame)
and `preview.npz` (rgb, mask, depth, cam2world, intrinsics, azimuth, elevation).
"""

from typing import Any

import numpy as np
from pydantic import Field

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.storage.records import Identity, Rendering
from spinmeround.tasks.heads.generator import generator_fingerprint, generator_of
from spinmeround.tasks.stage import Stage, StageJob, StageParams


class SampleParams(StageParams):
    """The previews: a ring of few, small views."""

    resolution: int = Field(64, ge=8, le=1024, description="Side of a preview in pixels")
    previews: ViewGrid = Field(
        ViewGrid(azimuths=8, elevations_deg=(0.0,)), description="Views of the previews, from few azimuths"
    )


def sample_head(generator: HeadGenerator, seed: int, params: SampleParams) -> tuple[Identity, Rendering]:
    """The head of a seed, and its previews."""
    identity = generator.sample(seed)
    return identity, generator.render(identity, params.previews.cameras(), params.resolution)


def _make(job: StageJob) -> None:
    generator, params = generator_of(job.sections), job.sections["sample"]
    identity, previews = sample_head(generator, job.head.seed, params)
    landmarks = generator.landmarks(identity)
    known: dict[str, Any] = {} if landmarks is None else {"landmarks": landmarks}
    np.savez(job.out / "identity.npz", seed=identity.seed, latent=identity.latent, **known)
    cameras = params.previews.cameras()
    np.savez(
        job.out / "preview.npz",
        rgb=previews.rgb,
        mask=previews.mask,
        depth=previews.depth,
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
    )


SAMPLE = Stage(
    name="sample",
    version=2,
    reads=("generator", "sample"),
    gated=False,
    weights=generator_fingerprint,
    make=_make,
)
