"""`spinmeround dataset`: look at published datasets, check, mend and compare them, exchange them with neighbours."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spinmeround.flows.run.progress import shown_progress
from spinmeround.storage.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from spinmeround.storage.artifacts import ArtifactStore

dataset_app = typer.Typer(help="Published datasets: look, check, mend, compare, exchange.", no_args_is_help=True)

DatasetArgument = Annotated[Path, typer.Argument(help="A published dataset, for instance runs/demo/datasets/*.zarr.")]
_LARGEST_LIST = 20


@dataset_app.command()
def info(path: DatasetArgument) -> None:
    """What a dataset holds, as JSON."""
    from spinmeround.storage.dataset import info

    typer.echo(json.dumps(info(path), indent=1))


@dataset_app.command()
def verify(
    path: DatasetArgument,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is damaged; the digest stays.")] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="With --repair: the profile that made it; else it says so.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a field of that profile.")] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="With --repair: the artifact store; else that of the run.")
    ] = None,
) -> None:
    """Check every file and every array of a dataset; exit status 1 when something is wrong."""
    if repair:
        _repair(path, profile, overrides or [], store)
        return
    from spinmeround.storage.dataset import verify

    with _bar("verify") as told:
        problems = verify(path, told=told)
    for problem in problems:
        typer.echo(str(problem), err=True)
    typer.echo(f"{path}: {f'{len(problems)} problems' if problems else 'whole'}")
    if problems:
        raise SystemExit(1)


@dataset_app.command()
def versions(
    place: Annotated[Path, typer.Argument(help="A run's folder, its datasets' folder, or one of them.")],
) -> None:
    """The versions that were published, oldest first."""
    from spinmeround.storage.dataset import list_versions

    folder = datasets_folder(place)
    for version in list_versions(folder):
        parent = f"after {version.parent[:12]}" if version.parent else "the first"
        there = "" if (folder / version.folder).is_dir() else "  (deleted)"
        created = version.created.isoformat(sep=" ", timespec="seconds")
        typer.echo(f"v{version.number:<4} {version.digest[:12]}  {created}  {version.heads} heads  {parent}{there}")


@dataset_app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A dataset's folder; or with --of v1, or the start of a digest.")],
    after: Annotated[str, typer.Argument(help="The other, named in the same way.")],
    of: Annotated[Path | None, typer.Option("--of", help="A run's folder, whose versions are named.")] = None,
) -> None:
    """What differs between two datasets: heads, arrays, attributes; exit status 0 also where something does."""
    from spinmeround.storage.dataset import diff_datasets

    found = diff_datasets(_named(before, of), _named(after, of))
    if found.empty:
        typer.echo("no difference")
        return
    for sign, ids in (("+", found.added), ("-", found.removed)):
        _listed([f"{sign} {id}" for id in ids])
    _listed([f"~ {id}: {', '.join(arrays)}" for id, arrays in found.changed.items()])
    if found.shared:
        typer.echo(f"~ {', '.join(found.shared)}: of all heads")
    for name, (old, new) in found.attributes.items():
        typer.echo(f"  {name}: {json.dumps(old)} -> {json.dumps(new)}")


def datasets_folder(place: Path) -> Path:
    """The folder of datasets that a run's folder, a dataset or such a folder itself stands for."""
    if (place / "manifest.json").is_file():
        return place.absolute().parent
    folder = place / "datasets" if (place / "datasets").is_dir() else place
    if not folder.is_dir():
        raise ConfigError(f"{place}: expected a run's folder or a dataset, found none")
    return folder


def _named(name: str, of: Path | None) -> Path:
    from spinmeround.storage.dataset import find_version

    if Path(name).is_dir():
        return Path(name)
    if of is None:
        raise ConfigError(f"{name}: expected a dataset's folder; a version is named with --of RUN")
    return find_version(datasets_folder(of), name)


def _listed(lines: list[str]) -> None:
    for line in lines[:_LARGEST_LIST]:
        typer.echo(line)
    if len(lines) > _LARGEST_LIST:
        typer.echo(f"  and {len(lines) - _LARGEST_LIST} more")


def _repair(path: Path, profile: str | None, overrides: list[str], store: Path | None) -> None:
    from spinmeround.tasks.dataset.repair import repair

    with _repair_store(path, store) as artifacts:
        made = repair(
            path,
            artifacts,
            _sections(path, profile, overrides),
            lambda head: typer.echo(f"head {head}: its artifacts are looked up, or made anew"),
        )
    for name in made.replaced:
        typer.echo(f"replaced   {name}")
    for moved in made.aside:
        typer.echo(f"moved      {moved}")
    for reason in made.reasons:
        typer.echo(f"note       {reason}", err=True)
    for problem in made.left:
        typer.echo(str(problem), err=True)
    typer.echo(f"{path}: {f'{len(made.left)} problems are left' if made.left else 'whole'}")
    if made.left:
        raise SystemExit(1)


def _sections(path: Path, profile: str | None, overrides: list[str]) -> "dict[str, BaseModel] | None":
    """The parameters of a named profile; None leaves it to what the dataset states."""
    if profile is None:
        return None
    from spinmeround.flows.profile import load_profile

    loaded = load_profile(profile, overrides)
    return {name: getattr(loaded, name) for name in type(loaded).model_fields if name != "name"}


@contextmanager
def _repair_store(path: Path, store: Path | None) -> "Iterator[ArtifactStore]":
    """The store of the run that a dataset lies in, or one for the time of the repair."""
    from spinmeround.storage.artifacts import ArtifactStore
    from spinmeround.storage.files import owned_folder

    run: Any = path.absolute().parent.parent
    found = store or (run / "store" if (run / "store").is_dir() else None)
    if not path.is_dir():
        raise DatasetError(f"{path}: expected a dataset folder, found none")
    if found is not None:
        yield ArtifactStore(found)
    else:
        with owned_folder(path.absolute().parent / ".tmp", "repair-store") as folder:
            yield ArtifactStore(folder)


@dataset_app.command()
def export(
    path: DatasetArgument,
    form: Annotated[str, typer.Option("--as", help="webdataset, nerfstudio or huggingface.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to make; it must not be there.")],
    head: Annotated[str | None, typer.Option("--head", help="With nerfstudio: whose views.")] = None,
    heads_per_shard: Annotated[int, typer.Option(min=1, help="Heads in one tar or parquet file.")] = 16,
) -> None:
    """Write a dataset for other software: tar shards, one head's folder, or parquet with a dataset card."""
    from spinmeround.storage.dataset import HeadDataset
    from spinmeround.tasks.exchange.huggingface import export_huggingface
    from spinmeround.tasks.exchange.nerfstudio import export_nerfstudio
    from spinmeround.tasks.exchange.webdataset import export_webdataset

    dataset = HeadDataset.open(path)
    if (form == "nerfstudio") != (head is not None):
        raise ConfigError("dataset export: expected --head ID with --as nerfstudio, and with no other")
    with _bar("export") as told:
        if form == "nerfstudio" and head is not None:
            export_nerfstudio(dataset, head, to, told)
        elif form == "webdataset":
            export_webdataset(dataset, to, heads_per_shard, told)
        elif form == "huggingface":
            export_huggingface(dataset, to, heads_per_shard, told)
        else:
            raise ConfigError(f"--as {form!r}: expected webdataset, nerfstudio or huggingface")
    typer.echo(f"{'exported':<10} {to}")


@dataset_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A folder that `dataset export` made.")],
    form: Annotated[str, typer.Option("--from", help="webdataset or huggingface.")],
    to: Annotated[Path, typer.Option("--to", help="The dataset to make; it must not be there.")],
) -> None:
    """Make a dataset of exported heads; the digest is that of the dataset they came from."""
    from spinmeround.tasks.exchange.huggingface import import_huggingface
    from spinmeround.tasks.exchange.webdataset import import_webdataset

    readers = {"webdataset": import_webdataset, "huggingface": import_huggingface}
    if form not in readers:
        raise ConfigError(f"--from {form!r}: expected one of {', '.join(readers)}")
    with _bar("import") as told:
        digest = readers[form](source, to, told)
    typer.echo(f"{'dataset':<10} {to}\n{'digest':<10} {digest}")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Progress, told as (done, total)."""
    with shown_progress() as progress:
        before = 0

        def told(done: int, total: int) -> None:
            nonlocal before
            if not before:
                progress.stage(name, total)
            progress.advance(name, done - before)
            before = done

        yield told
