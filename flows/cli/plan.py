"""`spinmeround plan`: what a build of a profile will make, before anything runs."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import amount, duration, table
from spinmeround.storage.errors import environment_errors

if TYPE_CHECKING:
    from spinmeround.tasks.dataset.estimate import Row


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    run_command(app, panel=panel)(plan)


def plan(
    options: RunOptions,
    name: Annotated[str | None, typer.Argument(metavar="[PROFILE]", help="Same as --profile.")] = None,
) -> None:
    """Show what a build will make, stage by stage, with estimates of time and disk; makes nothing."""
    from spinmeround.flows.run.session import plan_session
    from spinmeround.tasks.dataset.estimate import estimate
    from spinmeround.tasks.heads.registry import DATASET_STAGES

    profile, place = (options if name is None else replace(options, profile=name)).load()
    session = plan_session(profile, place)
    root, gpus = session.store.root, session.pool.size(gpu=True)
    with environment_errors(Path(root)):
        reviews = {head.id: session.review(head) for head in session.heads}
        stages = [session.stages[stage.name] for stage in DATASET_STAGES]
        verdicts = {head: None if review is None else review.keep for head, review in reviews.items()}
        rows, share = estimate(session.store, stages, session.heads, session.keys, verdicts)
    typer.echo(f"{len(session.heads)} heads of profile {profile.name}, artifacts in {root}")
    workers = f"{session.pool.size()} worker{'s' if session.pool.size() > 1 else ''}"
    typer.echo(f"{share}; times are for {workers}{f' on the CPU and {gpus} on GPUs' if gpus else ''}")
    taken = {row.stage: None if row.seconds is None else row.seconds / session.workers_of(row.stage) for row in rows}
    header = ["stage", "made", "to make", "dropped", "time", "disk", "estimated from"]
    typer.echo(table(header, [*(_cells(row, taken[row.stage]) for row in rows), _total(rows, taken)]))
    if isinstance(root, Path):
        existing = next(folder for folder in (root, *root.parents) if folder.is_dir())
        typer.echo(f"{amount(shutil.disk_usage(existing).free)} free; publishing hard-links the heads' files")


def _cells(row: "Row", seconds: float | None) -> list[str]:
    time = "?" if seconds is None else duration(seconds) if row.to_make else ""
    disk = "?" if row.size is None else amount(row.size) if row.to_make else ""
    return [row.stage, str(row.existing), str(row.to_make), str(row.dropped), time, disk, row.basis]


def _total(rows: Sequence["Row"], taken: Mapping[str, float | None]) -> list[str]:
    """Sums over the stages; lower bounds where a stage has no estimate."""
    unknown = [stage for stage, seconds in taken.items() if seconds is None]
    seconds = sum(each or 0.0 for each in taken.values())
    size = sum(row.size or 0.0 for row in rows)
    sign = ">= " if unknown else ""
    counts = [str(sum(getattr(row, name) for row in rows)) for name in ("existing", "to_make", "dropped")]
    basis = f"without {', '.join(unknown)}" if unknown else ""
    return ["total", *counts, f"{sign}{duration(seconds)}", f"{sign}{amount(size)}", basis]
