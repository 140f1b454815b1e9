"""What a build will make, stage by stage, as the command `plan` prints it and as an artifact in the UI."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spinmeround.flows.run.session import Session
from spinmeround.storage.errors import environment_errors
from spinmeround.tasks.amounts import amount, duration
from spinmeround.tasks.dataset.estimate import Row, estimate
from spinmeround.tasks.heads.registry import DATASET_STAGES
from spinmeround.tasks.markdown import markdown_table

HEADER = ("stage", "made", "to make", "dropped", "time", "disk", "estimated from")


@dataclass(frozen=True, kw_only=True)
class PlanTable:
    """A row per stage and one of the totals, and what holds for all of them."""

    rows: Sequence[Sequence[str]]
    before: Sequence[str]
    """Lines about the heads and the basis of the times."""
    after: Sequence[str]
    """Lines about the disk."""

    def markdown(self) -> str:
        """The plan in Markdown."""
        return "\n\n".join([*self.before, markdown_table(HEADER, self.rows), *self.after])


def plan_table(session: Session) -> PlanTable:
    """What a run of this session would make now; reads at most 100 manifests of each stage.

    Raises EnvironmentUnavailable if the store can't be read.
    """
    root, cpu, gpus = session.store.root, session.pool.size(), session.pool.size(gpu=True)
    with environment_errors(Path(root)):
        reviews = {head.id: session.review(head) for head in session.heads}
        verdicts = {head: None if review is None else review.keep for head, review in reviews.items()}
        stages = [session.stages[stage.name] for stage in DATASET_STAGES]
        rows, share = estimate(session.store, stages, session.heads, session.keys, verdicts)
    workers = f"{cpu} worker{'s' if cpu > 1 else ''}"
    before = [
        f"{len(session.heads)} heads of profile {session.profile.name}, artifacts in {root}",
        f"{share}; times are for {workers}{f' on the CPU and {gpus} on GPUs' if gpus else ''}",
    ]
    taken = {row.stage: None if row.seconds is None else row.seconds / session.workers_of(row.stage) for row in rows}
    after = []
    if isinstance(root, Path):
        existing = next(folder for folder in (root, *root.parents) if folder.is_dir())
        after.append(f"{amount(shutil.disk_usage(existing).free)} free; publishing hard-links the heads' files")
    cells = [*(_cells(row, taken[row.stage]) for row in rows), _total(rows, taken)]
    return PlanTable(rows=cells, before=before, after=after)


def _cells(row: Row, seconds: float | None) -> list[str]:
    time = "?" if seconds is None else duration(seconds) if row.to_make else ""
    disk = "?" if row.size is None else amount(row.size) if row.to_make else ""
    return [row.stage, str(row.existing), str(row.to_make), str(row.dropped), time, disk, row.basis]


def _total(rows: Sequence[Row], taken: Mapping[str, float | None]) -> list[str]:
    """Sums over the stages; lower bounds where a stage has no estimate."""
    unknown = [stage for stage, seconds in taken.items() if seconds is None]
    seconds = sum(each or 0.0 for each in taken.values())
    size = sum(row.size or 0.0 for row in rows)
    sign = ">= " if unknown else ""
    if len(unknown) == sum(row.to_make > 0 for row in rows) > 0:
        return ["total", *_counts(rows), "?", "?", ""]
    basis = f"without {', '.join(unknown)}" if unknown else ""
    return ["total", *_counts(rows), f"{sign}{duration(seconds)}", f"{sign}{amount(size)}", basis]


def _counts(rows: Sequence[Row]) -> list[str]:
    return [str(sum(getattr(row, name) for row in rows)) for name in ("existing", "to_make", "dropped")]
