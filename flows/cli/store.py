"""`spinmeround store`: inspects, checks and cleans an artifact store, a local folder or an object store.

The store is that of `--store`, or of the run that `--profile`, `--runs` and `--out` name.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values, table
from spinmeround.flows.run.progress import shown_progress, stage_progress
from spinmeround.storage.errors import ConfigError, environment_errors
from spinmeround.tasks.amounts import amount

if TYPE_CHECKING:
    from spinmeround.storage.artifacts import ArtifactStore, Garbage, StoreCheck, StoredArtifact

store_app = typer.Typer(help="Inspect, check and clean an artifact store.", no_args_is_help=True)
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Check everything again instead of resuming an interrupted check.")
]


@run_command(store_app)
def verify(options: RunOptions, fresh: FreshOption = False) -> None:
    """Check every payload against its manifest; exits with status 1 when it finds problems."""
    with opened_store(options) as store:
        found = _check(store, fresh=fresh)
        typer.echo(f"{store.root}: {_check_result(found)}")
        if found.problems:
            print_values({"then": options.command("store repair")})
            raise SystemExit(1)


@run_command(store_app)
def repair(
    options: RunOptions,
    fresh: FreshOption = False,
    remake: Annotated[
        bool, typer.Option("--remake", help="Remake damaged artifacts now, by building the profile.")
    ] = False,
) -> None:
    """Check like `verify`, and move damaged artifacts aside, so that the next build remakes them."""
    from spinmeround.storage.artifacts import set_aside_damaged

    with opened_store(options) as store:
        found = _check(store, fresh=fresh)
        if aside := set_aside_damaged(store, found.problems):
            print_values({"aside": aside})
        typer.echo(f"{store.root}: {_check_result(found)}")
        left = [problem for problem in found.problems if not problem.damaged]
    if remake:
        from spinmeround.flows.cli.shared.run_flow import print_summary, run_flow

        print_summary(run_flow(options, "spinmeround.flows.dataset:dataset_flow"), options, "heads", "dataset")
    elif len(found.problems) > len(left):
        print_values({"then": options.command("build")})
    if left:
        raise SystemExit(1)


@run_command(store_app)
def gc(
    options: RunOptions,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the garbage; default: only list it.")] = False,
    grace_hours: Annotated[float, typer.Option(min=0.0, help="Keep artifacts younger than this, in hours.")] = 24.0,
    forget: Annotated[
        list[str] | None, typer.Option(help="Id of a deleted run, whose artifacts are no longer kept; repeatable.")
    ] = None,
) -> None:
    """List artifacts that no registered run or dataset refers to, and remove them with --delete."""
    from spinmeround.storage.artifacts import find_garbage, forget_run, remove_garbage

    with opened_store(options) as store:
        for run in forget or []:
            forget_run(store, run)
        garbage = find_garbage(store, grace_hours * 3600, on_progress=stage_progress("manifests"))
        for note in garbage.roots.notes:
            typer.echo(note, err=True)
        typer.echo(_garbage_table(garbage))
        if delete:
            items, strays = remove_garbage(store, garbage, on_progress=stage_progress("remove"))
            size = sum(item.size for item in items) + sum(stray.size for stray in strays)
            typer.echo(f"removed {len(items)} artifacts and {len(strays)} strays, {amount(size)}")
        elif garbage.dead or garbage.strays:
            typer.echo("nothing was removed; --delete removes the dead artifacts and the strays")


@run_command(store_app)
def du(options: RunOptions) -> None:
    """Show the disk use of each stage, and how much of it nothing refers to."""
    from spinmeround.storage.artifacts import find_garbage, survey_store
    from spinmeround.storage.errors import StoreError

    with opened_store(options) as store:
        try:
            garbage = find_garbage(store, 0.0, on_progress=stage_progress("manifests"))
        except StoreError as error:
            typer.echo(f"unknown which artifacts are dead: {error}", err=True)
            items, dead = list(survey_store(store).items.values()), None
        else:
            items, dead = list(garbage.found.items.values()), {item.key for item in garbage.dead}
    typer.echo(_size_table(items, dead))
    if unused := _unknown_stages({item.stage for item in items}):
        typer.echo(f"{', '.join(unused)}: stages of another version of the software, which this version does not use")


@run_command(store_app)
def why(
    target: Annotated[str, typer.Argument(help="Start of an artifact's key, or id of a head.")],
    options: RunOptions,
    other: Annotated[str | None, typer.Argument(help="Another key or head to compare with.")] = None,
    against: Annotated[str | None, typer.Option(help="Another profile to compare this head with.")] = None,
    against_set: Annotated[
        list[str] | None, typer.Option(metavar="SECTION.FIELD=VALUE", help="Override to compare with; repeatable.")
    ] = None,
) -> None:
    """Show the provenance of an artifact or head; with a second one or another profile, what differs and is remade."""
    from spinmeround.flows.cli.store_why import difference, provenance

    if other is not None and (against or against_set):
        raise ConfigError("why: expected another key or head, or another profile with --against, got both")
    with opened_store(options) as store:
        if other is None and not against and not against_set:
            typer.echo(provenance(store, options, target))
        else:
            typer.echo(difference(store, options, target, other, against, against_set or []))


def _unknown_stages(names: set[str]) -> list[str]:
    """The stages among these that this version does not have."""
    from spinmeround.storage.artifacts import FINAL_STAGES
    from spinmeround.tasks.heads.registry import HEAD_STAGES

    return sorted(names - {stage.name for stage in HEAD_STAGES} - set(FINAL_STAGES))


@contextmanager
def opened_store(options: RunOptions) -> Iterator["ArtifactStore"]:
    """Yield the store that the options name; raises ConfigError when a local one does not exist."""
    from spinmeround.flows.run.folder import find_run, store_root
    from spinmeround.storage.artifacts import ArtifactStore

    if options.store is not None:
        root = store_root(options.store)
    else:
        profile, place = options.load()
        root = find_run(place, profile.name).store
    if isinstance(root, Path) and not root.is_dir():
        raise ConfigError(f"--store {root}: expected an artifact store, found no such folder; check the path")
    with shown_progress(), environment_errors(Path(root)):
        yield ArtifactStore(root)


def _check(store: "ArtifactStore", *, fresh: bool) -> "StoreCheck":
    from spinmeround.storage.artifacts import check_store

    found = check_store(store, fresh=fresh, on_progress=stage_progress("verify"))
    for problem in found.problems:
        typer.echo(str(problem), err=True)
    return found


def _check_result(found: "StoreCheck") -> str:
    resumed = f" ({found.resumed} of them before the interruption)" if found.resumed else ""
    result = f"{len(found.problems)} defective" if found.problems else "all intact"
    return f"{found.artifacts} artifacts checked{resumed}, {result}"


def _garbage_table(garbage: "Garbage") -> str:
    by_stage = _by_stage(garbage.dead)
    rows = [[stage, str(len(items)), amount(sum(item.size for item in items))] for stage, items in by_stage.items()]
    if garbage.strays:
        size = amount(sum(stray.size for stray in garbage.strays))
        rows.append(["(set aside or incomplete)", str(len(garbage.strays)), size])
    total = sum(item.size for item in garbage.dead) + sum(stray.size for stray in garbage.strays)
    rows.append(["total", str(len(garbage.dead) + len(garbage.strays)), amount(total)])
    return table(["dead", "number", "size"], rows)


def _size_table(items: Sequence["StoredArtifact"], dead: set[str] | None) -> str:
    rows = [_size_row(stage, found, dead) for stage, found in sorted(_by_stage(items).items())]
    return table(["stage", "artifacts", "size", "dead", "size"], [*rows, _size_row("total", items, dead)])


def _size_row(name: str, items: Sequence["StoredArtifact"], dead: set[str] | None) -> list[str]:
    gone = [item for item in items if dead is not None and item.key in dead]
    row = [name, str(len(items)), amount(sum(item.size for item in items))]
    return [*row, *(["?", "?"] if dead is None else [str(len(gone)), amount(sum(item.size for item in gone))])]


def _by_stage(items: Sequence["StoredArtifact"]) -> dict[str, list["StoredArtifact"]]:
    stages: dict[str, list[StoredArtifact]] = defaultdict(list)
    for item in items:
        stages[item.stage].append(item)
    return stages
