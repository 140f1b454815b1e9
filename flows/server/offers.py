"""What the UI offers to run for a profile: each flow and each stage, with the fields of the profile in its form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect import Flow

_TRAINING = (
    "train.initial",
    "train.adapt.steps",
    "train.single_view.steps",
    "train.multi_view.steps",
    "train.batch",
    "train.learning_rate",
    "train.precision",
    "train.checkpoint_every",
    "train.launch",
)
_BUILD = ("plan", "review", "publish", "execution")


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A flow to be deployed for a profile: its name beside the profile's, and the fields of the profile in its form.

    `parameters` are values of other parameters, of which the form does not show those in `fixed`.
    """

    name: str
    flow: "Flow[..., Any]"
    fields: tuple[str, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    description: str | None = None


def offers(run: Path) -> Iterator[Offer]:
    """All flows, then all stages; `run` is the folder of the profile's run."""
    from spinmeround.flows.ablation import ablation_flow
    from spinmeround.flows.calibration import calibration_flow
    from spinmeround.flows.dataset import dataset_flow
    from spinmeround.flows.evaluation import evaluation_flow
    from spinmeround.flows.generation import generation_flow
    from spinmeround.flows.promotion import promotion_flow
    from spinmeround.flows.reconstruction import reconstruction_flow
    from spinmeround.flows.report import report_flow
    from spinmeround.flows.retraining import retraining_flow
    from spinmeround.flows.stages import stage_flow
    from spinmeround.flows.training import training_flow
    from spinmeround.flows.workflow import workflow_flow
    from spinmeround.tasks.heads.registry import HEAD_STAGES

    generated = str(run / "generated")
    yield Offer(name="workflow", flow=workflow_flow, fields=(*_BUILD, *_TRAINING))
    yield Offer(name="dataset", flow=dataset_flow, fields=_BUILD)
    yield Offer(name="training", flow=training_flow, fields=_TRAINING)
    yield Offer(name="evaluation", flow=evaluation_flow, fields=("evaluate",))
    yield Offer(name="ablation", flow=ablation_flow, fields=("ablate",))
    yield Offer(name="promotion", flow=promotion_flow, fields=("promote", "evaluate"))
    yield Offer(name="retraining", flow=retraining_flow, fields=(*_TRAINING, "promote"))
    yield Offer(name="report", flow=report_flow, fields=("report",))
    yield Offer(name="calibration", flow=calibration_flow, fields=(), parameters={"params": {"keep": 0.95}})
    yield Offer(
        name="generation",
        flow=generation_flow,
        fields=(),
        parameters={"params": {"given": {"kind": "nothing"}}, "folder": generated},
    )
    yield Offer(
        name="reconstruction",
        flow=reconstruction_flow,
        fields=("reconstruct",),
        parameters={
            "request": {"views": {"kind": "folder", "folder": generated}},
            "folder": str(run / "reconstructed"),
        },
    )
    for stage in HEAD_STAGES:
        yield Offer(
            name=stage.name,
            flow=stage_flow,
            fields=(*stage.reads, "plan", "execution"),
            parameters={"stage": stage.name},
            fixed=("stage",),
            tags=("stage",),
            description=f"The stage {stage.name} alone, for some or all heads",
        )
