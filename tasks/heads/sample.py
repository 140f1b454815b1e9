"""Sample: the identity of a seed and cheap previews of the head, from which the head is screened.

Artifact: `identity.npz` and `preview.npz`, described in `sample_files`.
"""

from pydantic import Field

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.tasks.heads.generator import generator_of, generator_on_gpu
from spinmeround.tasks.heads.sample_files import Previews, write_identity, write_previews
from spinmeround.tasks.stage import Stage, StageJob, StageParams, StageSections


class SampleParams(StageParams):
    """The previews: a ring of a few small views."""

    resolution: int = Field(64, ge=8, le=1024, description="Side of a preview, in pixels")
    previews: ViewGrid = Field(
        ViewGrid(azimuths=8, elevations_deg=(0.0,)), description="View grid of the previews, with few azimuths"
    )


class SampleSections(StageSections):
    """Sections that the sample stage reads."""

    generator: GeneratorConfig
    sample: SampleParams


def _fingerprint(sections: SampleSections) -> str:
    return generator_of(sections.generator).fingerprint


def _on_gpu(sections: SampleSections) -> bool:
    return generator_on_gpu(sections.generator)


def _make(job: StageJob[SampleSections]) -> None:
    generator, params = generator_of(job.sections.generator), job.sections.sample
    identity, cameras = generator.sample(job.head.seed), params.previews.cameras()
    rendering = generator.render(identity, cameras, params.resolution)
    write_identity(job.out, identity, generator.landmarks(identity))
    write_previews(job.out, Previews(rendering=rendering, cameras=cameras))


SAMPLE = Stage(
    name="sample", version=2, sections_type=SampleSections, gated=False, weights=_fingerprint, gpu=_on_gpu, make=_make
)
