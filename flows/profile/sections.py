"""The sections of a profile, each defined by the stage that reads it, and `execution`, which no stage reads."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.params import MeshParams
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import FrozenParams
from spinmeround.tasks.ablation.params import AblateParams
from spinmeround.tasks.dataset.publish import PublishParams
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.heads.normals import NormalsParams
from spinmeround.tasks.heads.plan import PlanParams
from spinmeround.tasks.heads.render import RenderParams
from spinmeround.tasks.heads.review import ReviewParams
from spinmeround.tasks.heads.sample import SampleParams
from spinmeround.tasks.heads.score import ScoreParams
from spinmeround.tasks.heads.screen import ScreenParams
from spinmeround.tasks.promotion.params import PromoteParams
from spinmeround.tasks.reconstruction.params import ReconstructParams
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.training.params import TrainParams

SMALLEST_SHARD, MOST_SHARDS = 8, 100
"""Bounds on the task runs of a stage: the server loses records of thousands at once, large shards hide progress."""


class ExecutionParams(FrozenParams):
    """Parallelism and failure tolerance of a run. Never changes what a run makes."""

    shard_size: int = Field(
        default=0,
        ge=0,
        description=f"Heads per task run; 0: {SMALLEST_SHARD}, or more where a stage would otherwise have over "
        f"{MOST_SHARDS} task runs",
    )
    engine: Literal["processes", "dask"] = Field(
        default="processes", description="What runs the shards: processes of this machine, or a Dask cluster"
    )
    address: str = Field(
        default="",
        description="Scheduler of an existing cluster, as tcp://HOST:8786; default: a cluster of this machine",
    )
    workers: int = Field(default=0, ge=0, le=256, description="Worker processes on the CPU; 0: one per core")
    gpus: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        description="GPUs of the stages of the heads: how many, or a list of indices among those that are visible; "
        "0: none; default: all",
    )
    workers_per_gpu: int = Field(
        default=1, ge=1, le=16, description="Worker processes of each GPU; more keep it busy while one uses a core"
    )
    retries: int = Field(default=1, ge=0, le=10, description="Number of retries of a failed head")
    timeout_s: float = Field(default=900.0, gt=0.0, description="Time limit of one stage for one head, in seconds")
    max_quarantined_share: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of quarantined heads above which a build fails",
    )
    failure_pause_s: float = Field(
        default=0.0,
        ge=0.0,
        description="Time that a build above this share waits, paused, for a person before it fails, in seconds",
    )

    @model_validator(mode="after")
    def _address_of_a_cluster(self) -> Self:
        if self.address and self.engine == "processes":
            raise ValueError("address: expected engine to be dask with an address, got processes")
        return self

    def heads_per_shard(self, heads: int) -> int:
        """Number of heads per task run, for a run of `heads` heads."""
        return self.shard_size or max(SMALLEST_SHARD, -(-heads // MOST_SHARDS))

    def chosen_gpus(self, visible: Sequence[str]) -> tuple[str, ...]:
        """The GPUs of the workers among those that are visible. Raises ConfigError for one that is not."""
        if self.gpus is None:
            return tuple(visible)
        indices = list(range(self.gpus)) if isinstance(self.gpus, int) else list(self.gpus)
        if any(index >= len(visible) for index in indices):
            raise ConfigError(
                f"execution.gpus: expected GPUs among the {len(visible)} that are visible here, got indices {indices}; "
                "nvidia-smi -L lists those of the machine, CUDA_VISIBLE_DEVICES limits them"
            )
        return tuple(visible[index] for index in dict.fromkeys(indices))


class ProfileSections(FrozenParams):
    """All sections of a profile. `Profile` adds the checks between sections."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="Name of the run and of its folder")
    generator: GeneratorConfig = GeneratorConfig()
    plan: PlanParams = PlanParams()
    views: ViewGrid = ViewGrid()
    sample: SampleParams = SampleParams()
    score: ScoreParams = ScoreParams()
    screen: ScreenParams = ScreenParams()
    review: ReviewParams = ReviewParams()
    render: RenderParams = RenderParams()
    mesh: MeshParams = MeshParams()
    normals: NormalsParams = NormalsParams()
    embed: EmbedParams = EmbedParams()
    publish: PublishParams = PublishParams()
    encode: EncodeParams = EncodeParams()
    train: TrainParams = TrainParams()
    evaluate: EvaluateParams = EvaluateParams()
    ablate: AblateParams = AblateParams()
    reconstruct: ReconstructParams = ReconstructParams()
    report: ReportParams = ReportParams()
    promote: PromoteParams = PromoteParams()
    execution: ExecutionParams = ExecutionParams()
