"""`spinmeround store`: look after an artifact store, a local folder or an object store.

The store is that of `--store`, or of the run that `--profile`, `--runs` and `--out` name.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.options import RunOptions, run_command
from spinmeround.flows.cli.tables import amount, table
from spinmeround.flows.run.progress import progress, shown_progress
from spinmeround.storage.errors import ConfigError, environment_errors

if TYPE_CHECKING:
    from spinmeround.storage.artifacts import ArtifactStore, Garbage, StoreCheck, StoredArtifact

store_app = typer.Typer(help="Look after an artifact store.", no_args_is_help=True)
FreshOption = Annotated[bool, typer.Option("--fresh", help="Begin anew, also where a check was interrupted.")]


@run_command(store_app)
def verify(options: RunOptions, fresh: FreshOption = False) -> None:
    """Check every payload against its manifest; exit status 1 when something is wrong."""
    with opened_store(options) as store:
        found = _checked(store, fresh=fresh)
        typer.echo(f"{store.root}: {_verdict(found)}")
        if found.problems:
            typer.echo(f"{'then':<10} {options.command('store repair')}")
            raise SystemExit(1)


@run_command(store_app)
def repair(
    options: RunOptions,
    fresh: FreshOption = False,
    remake: Annotated[bool, typer.Option("--remake", help="Make them again at once: builds the profile.")] = False,
) -> None:
    """Check like `verify` and move what is damaged aside, so that the next build makes it again."""
    from spinmeround.storage.artifacts.check import set_aside

    with opened_store(options) as store:
        found = _checked(store, fresh=fresh)
        for place in set_aside(store, found.problems):
            typer.echo(f"{'aside':<10} {place}")
        typer.echo(f"{store.root}: {_verdict(found)}")
        left = [problem for problem in found.problems if not problem.damaged]
    if remake:
        from spinmeround.flows.cli.app import run_flow, tell

        tell(run_flow(options, "spinmeround.flows.dataset:dataset_flow"), options, "heads", "dataset")
    elif len(found.problems) > len(left):
        typer.echo(f"{'then':<10} {options.command('build')}")
    if left:
        raise SystemExit(1)


@run_command(store_app)
def gc(
    options: RunOptions,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this, only show it.")] = False,
    grace_hours: Annotated[float, typer.Option(min=0.0, help="Keep what is younger than this.")] = 24.0,
    forget: Annotated[list[str] | None, typer.Option(help="Id of a run that is no more and keeps nothing.")] = None,
) -> None:
    """What no kept dataset or run refers to: shown, and removed with --delete."""
    from spinmeround.storage.artifacts import find_garbage, forget_run, remove_garbage

    with opened_store(options) as store:
        for run in forget or []:
            forget_run(store, run)
        garbage = find_garbage(store, grace_hours * 3600, report=_reader("manifests"))
        for note in garbage.roots.notes:
            typer.echo(note, err=True)
        typer.echo(_garbage_table(garbage))
        if delete:
            progress().stage("remove", len(garbage.dead))
            items, strays = remove_garbage(store, garbage, report=lambda done: progress().advance("remove", done))
            size = sum(item.size for item in items) + sum(stray.size for stray in strays)
            typer.echo(f"removed {len(items)} artifacts and {len(strays)} strays, {amount(size)}")
        elif garbage.dead or garbage.strays:
            typer.echo("nothing was removed; --delete removes what is dead and the strays")


@run_command(store_app)
def du(options: RunOptions) -> None:
    """How much each stage takes, and how much of it nothing refers to."""
    from spinmeround.storage.artifacts import find_garbage
    from spinmeround.storage.artifacts.survey import survey
    from spinmeround.storage.errors import StoreError

    with opened_store(options) as store:
        try:
            garbage = find_garbage(store, 0.0, report=_reader("manifests"))
        except StoreError as error:
            typer.echo(f"what is dead is unknown: {error}", err=True)
            typer.echo(_sizes(list(survey(store).items.values()), None))
        else:
            typer.echo(_sizes(list(garbage.found.items.values()), {item.key for item in garbage.dead}))


@run_command(store_app)
def why(
    target: Annotated[str, typer.Argument(help="The beginning of an artifact's key, or the id of a head.")],
    options: RunOptions,
    other: Annotated[str | None, typer.Argument(help="Another key or head: what differs?")] = None,
    against: Annotated[str | None, typer.Option(help="Another profile: what differs for this head?")] = None,
    against_set: Annotated[list[str] | None, typer.Option(help="What changes there: section.field=value.")] = None,
) -> None:
    """Where an artifact or a head comes from, and what would be made again for another one or another profile."""
    from spinmeround.flows.cli.store_why import difference, provenance

    if other is not None and (against or against_set):
        raise ConfigError("why: expected another key or head, or another profile with --against, got both")
    with opened_store(options) as store:
        if other is None and not against and not against_set:
            typer.echo(provenance(store, options, target))
        else:
            typer.echo(difference(store, options, target, other, against, against_set or []))


@contextmanager
def opened_store(options: RunOptions) -> Iterator["ArtifactStore"]:
    """The store that the options name. Raises ConfigError where a local one is not there."""
    from spinmeround.flows.run.folder import find_run, store_root
    from spinmeround.storage.artifacts import ArtifactStore

    if options.store is not None:
        root = store_root(options.store)
    else:
        profile, place = options.load()
        root = find_run(place, profile.name).store
    if isinstance(root, Path) and not root.is_dir():
        raise ConfigError(f"--store {root}: expected an artifact store, found nothing; another path?")
    with shown_progress(), environment_errors(Path(root)):
        yield ArtifactStore(root)


def _checked(store: "ArtifactStore", *, fresh: bool) -> "StoreCheck":
    from spinmeround.storage.artifacts import check_store

    found = check_store(
        store,
        fresh=fresh,
        begin=lambda total: progress().stage("verify", total),
        report=lambda done: progress().advance("verify", done),
    )
    for problem in found.problems:
        typer.echo(str(problem), err=True)
    return found


def _verdict(found: "StoreCheck") -> str:
    resumed = f" ({found.resumed} of them before the interruption)" if found.resumed else ""
    what = f"{len(found.problems)} not whole" if found.problems else "all whole"
    return f"{found.artifacts} artifacts checked{resumed}, {what}"


def _reader(name: str) -> "_Reader":
    return _Reader(name)


class _Reader:
    """Says now and then how many have been read, where nobody knows how many there are."""

    def __init__(self, name: str) -> None:
        self._name, self._done, self._told = name, 0, 0

    def __call__(self, done: int) -> None:
        self._done += done
        if self._done - self._told >= 10_000:
            self._told = self._done
            progress().say(f"{self._name}: {self._done} read")


def _garbage_table(garbage: "Garbage") -> str:
    by_stage: dict[str, list[StoredArtifact]] = defaultdict(list)
    for item in garbage.dead:
        by_stage[item.stage].append(item)
    rows = [[stage, str(len(items)), amount(sum(item.size for item in items))] for stage, items in by_stage.items()]
    if garbage.strays:
        size = amount(sum(stray.size for stray in garbage.strays))
        rows.append(["(moved aside or never whole)", str(len(garbage.strays)), size])
    total = sum(item.size for item in garbage.dead) + sum(stray.size for stray in garbage.strays)
    rows.append(["total", str(len(garbage.dead) + len(garbage.strays)), amount(total)])
    return table(["dead", "number", "size"], rows)


def _sizes(items: Sequence["StoredArtifact"], dead: set[str] | None) -> str:
    by_stage: dict[str, list[StoredArtifact]] = defaultdict(list)
    for item in items:
        by_stage[item.stage].append(item)
    rows = [_size_row(stage, by_stage[stage], dead) for stage in sorted(by_stage)]
    return table(["stage", "artifacts", "size", "dead", "size"], [*rows, _size_row("total", items, dead)])


def _size_row(name: str, items: Sequence["StoredArtifact"], dead: set[str] | None) -> list[str]:
    gone = [item for item in items if dead is not None and item.key in dead]
    row = [name, str(len(items)), amount(sum(item.size for item in items))]
    return [*row, *(["?", "?"] if dead is None else [str(len(gone)), amount(sum(item.size for item in gone))])]
