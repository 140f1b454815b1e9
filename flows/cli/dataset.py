"""`spinmeround dataset`: inspect, check, repair and compare published datasets, and convert them to other formats."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spinmeround.flows.cli.shared.options import OverridesOption
from spinmeround.flows.cli.shared.output import print_values
from spinmeround.flows.run.progress import shown_progress, stage_progress
from spinmeround.storage.errors import ConfigError, DatasetError, as_config_error

if TYPE_CHECKING:
    from spinmeround.flows.profile import Profile
    from spinmeround.storage.artifacts import ArtifactStore

dataset_app = typer.Typer(help="Inspect, check, repair, compare and convert published datasets.", no_args_is_help=True)

DatasetArgument = Annotated[Path, typer.Argument(help="A published dataset, for instance runs/demo/datasets/*.zarr.")]
_MAX_LISTED = 20
_captured_option = partial(typer.Option, rich_help_panel="Photographed heads")


@dataset_app.command()
def info(path: DatasetArgument) -> None:
    """Print what a dataset contains, as JSON."""
    from spinmeround.storage.dataset import info

    typer.echo(json.dumps(info(path), indent=1, allow_nan=False))


@dataset_app.command()
def verify(
    path: DatasetArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Repair damaged files from the artifacts; the digest stays the same.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", "-p", help="With --repair: the profile that made it; default: as the dataset states."
        ),
    ] = None,
    overrides: OverridesOption = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", help="The store whose artifacts it was published from; default: the run's."),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", help="The digest that it must have, or its first 12 digits or more.")
    ] = None,
) -> None:
    """Check every file, array and the digest of a dataset; exits with status 1 when it finds problems."""
    if repair:
        if digest is not None:
            raise ConfigError("dataset verify: --digest: expected without --repair; run verify again afterwards")
        _repair(path, profile, overrides or [], store)
        return
    from spinmeround.storage.dataset import is_stated, verify

    with shown_progress():
        published = _published(path, store)
        problems = verify(path, digest=digest or "", published=published, on_progress=stage_progress("verify"))
    for problem in problems:
        typer.echo(str(problem), err=True)
    if not (digest or published or is_stated(path)):
        typer.echo(f"{path}: no versions.json, store or --digest states a digest to compare with", err=True)
    typer.echo(f"{path}: {f'{len(problems)} problems' if problems else f'intact, {_digests(path)}'}")
    if problems:
        raise SystemExit(1)


@dataset_app.command()
def versions(
    place: Annotated[Path, typer.Argument(help="A run's folder, its datasets folder, or one of its datasets.")],
) -> None:
    """List the published versions, oldest first."""
    from spinmeround.storage.dataset import list_versions

    folder = datasets_folder(place)
    for version in list_versions(folder):
        parent = f"after {version.parent[:12]}" if version.parent else "the first"
        state = "" if (folder / version.folder).is_dir() else "  (deleted)"
        created = version.created.isoformat(sep=" ", timespec="seconds")
        description = f"{version.digest[:12]}  {created}  {version.heads} heads  {parent}{state}"
        print_values({f"v{version.number}": description}, width=6)


@dataset_app.command()
def diff(
    before: Annotated[
        str, typer.Argument(help="A dataset's folder; with --of a version (v1) or the start of a digest.")
    ],
    after: Annotated[str, typer.Argument(help="The other dataset, named in the same way.")],
    of: Annotated[Path | None, typer.Option("--of", help="A run's folder, whose versions are compared.")] = None,
) -> None:
    """Show how two datasets differ in heads, arrays and attributes; exits with status 0 in any case."""
    from spinmeround.storage.dataset import diff_datasets

    found = diff_datasets(_resolve(before, of), _resolve(after, of))
    if found.empty:
        typer.echo("no difference")
        return
    for sign, ids in (("+", found.added), ("-", found.removed)):
        _print_some([f"{sign} {id}" for id in ids])
    _print_some([f"~ {id}: {', '.join(arrays)}" for id, arrays in found.changed.items()])
    if found.shared:
        typer.echo(f"~ {', '.join(found.shared)}: shared by all heads")
    for name, (old, new) in found.attributes.items():
        typer.echo(f"  {name}: {json.dumps(old, allow_nan=False)} -> {json.dumps(new, allow_nan=False)}")


@dataset_app.command()
def export(
    path: DatasetArgument,
    form: Annotated[Literal["webdataset", "nerfstudio", "huggingface"], typer.Option("--as", help="Output format.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to create; it must not exist.")],
    head: Annotated[str | None, typer.Option("--head", help="With nerfstudio: id of the head to export.")] = None,
    heads_per_shard: Annotated[int, typer.Option(min=1, help="Heads per tar or parquet file.")] = 16,
) -> None:
    """Convert a dataset to tar shards, one head's nerfstudio folder, or parquet files with a dataset card."""
    from spinmeround.storage.dataset import HeadDataset
    from spinmeround.tasks.exchange.huggingface import export_huggingface
    from spinmeround.tasks.exchange.nerfstudio import export_nerfstudio
    from spinmeround.tasks.exchange.webdataset import export_webdataset

    dataset = HeadDataset.open(path)
    if (form == "nerfstudio") != (head is not None):
        raise ConfigError("dataset export: expected --head ID with --as nerfstudio, and only with it")
    with shown_progress():
        on_progress = stage_progress("export")
        if head is not None:
            export_nerfstudio(dataset, head, to, on_progress)
        else:
            write = export_webdataset if form == "webdataset" else export_huggingface
            write(dataset, to, heads_per_shard, on_progress)
    print_values({"exported": to})


@dataset_app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="A folder of this format.")],
    form: Annotated[
        Literal["webdataset", "huggingface", "nerfstudio", "nersemble", "facescape"],
        typer.Option(
            "--from", help="Format of the folder: one that `export` wrote, or photographed heads (the last three)."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Dataset to create; it must not exist.")],
    pack: Annotated[
        Path | None, _captured_option(help="Folder of an InsightFace pack, whose detector finds the landmarks.")
    ] = None,
    recognition: Annotated[
        str, _captured_option(help="'embedded', an ArcFace ONNX file or a pack with one, as embed.recognition.")
    ] = "embedded",
    side: Annotated[int, _captured_option(help="Side of the dataset's pictures, in pixels.")] = 256,
    views: Annotated[
        int | None, _captured_option(min=1, help="Views of each head; default: the fewest that a head has.")
    ] = None,
    sequence: Annotated[
        str | None, _captured_option(help="Sequence of NeRSemble, or expression of FaceScape (default: 1_neutral).")
    ] = None,
    timestep: Annotated[int, _captured_option(min=0, help="Number of the frame in a sequence of NeRSemble.")] = 0,
    frame: Annotated[
        Literal["landmarks", "given"],
        _captured_option(help="World frame: by the landmarks, or as it is in the file."),
    ] = "landmarks",
    licence: Annotated[str, _captured_option(help="Licence of the pictures, which the dataset states.")] = "not stated",
) -> None:
    """Convert exported heads back to a dataset, with the digest of the original; or make one of photographed heads."""
    if form == "webdataset" or form == "huggingface":
        from spinmeround.tasks.exchange.huggingface import import_huggingface
        from spinmeround.tasks.exchange.webdataset import import_webdataset

        read = import_webdataset if form == "webdataset" else import_huggingface
        with shown_progress():
            digest = read(source, to, stage_progress("import"))
        print_values({"dataset": to, "digest": digest})
        return
    from spinmeround.tasks.captured.networks import load_networks
    from spinmeround.tasks.captured.params import CaptureParams
    from spinmeround.tasks.captured.run import import_captured

    with as_config_error("dataset import: "):
        params = CaptureParams(
            side=side, views=views, sequence=sequence, timestep=timestep, frame=frame, licence=licence
        )
    with shown_progress():
        networks = load_networks(pack, recognition)
        found = import_captured(source, form, to, params, networks, stage_progress("import"))
    _print_some([f"left out: {id}: {reason}" for id, reason in found.left_out.items()])
    print_values({"dataset": to, "digest": found.digest, "heads": found.heads, "views": found.views})
    print_values({"without normals": f"{found.without_normals} heads"})


@dataset_app.command()
def encode(
    path: DatasetArgument,
    profile: Annotated[str, typer.Option("--profile", "-p", help="The profile whose section encode is used.")] = "demo",
    overrides: OverridesOption = None,
) -> None:
    """Add the latents that a training reads to a dataset that no run built, such as an imported one."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.dataset.encode import encode_dataset

    with shown_progress():
        digest = encode_dataset(path, load_profile(profile, overrides or []).encode, stage_progress("encode"))
    print_values({"dataset": path, "latents": digest})


def datasets_folder(place: Path) -> Path:
    """The folder of datasets of a run's folder, of a dataset, or `place` itself; raises ConfigError."""
    if (place / "manifest.json").is_file():
        return place.absolute().parent
    folder = place / "datasets" if (place / "datasets").is_dir() else place
    if not folder.is_dir():
        raise ConfigError(f"{place}: expected a run's folder or a dataset, found no such folder")
    return folder


def _resolve(name: str, of: Path | None) -> Path:
    from spinmeround.storage.dataset import find_version

    if Path(name).is_dir():
        return Path(name)
    if of is None:
        raise ConfigError(f"{name}: expected a dataset's folder, found none; to name a version add --of RUN")
    return find_version(datasets_folder(of), name)


def _print_some(lines: list[str]) -> None:
    for line in lines[:_MAX_LISTED]:
        typer.echo(line)
    if len(lines) > _MAX_LISTED:
        typer.echo(f"  and {len(lines) - _MAX_LISTED} more")


def _repair(path: Path, profile: str | None, overrides: list[str], store: Path | None) -> None:
    from spinmeround.tasks.dataset.repair import repair

    with _repair_store(path, store) as artifacts:
        found = repair(
            path,
            artifacts,
            _profile(profile, overrides),
            lambda head: typer.echo(f"head {head}: looking up its artifacts, remaking those that are missing"),
        )
    if found.replaced:
        print_values({"replaced": list(found.replaced)})
    if found.aside:
        print_values({"moved": list(found.aside)})
    if found.reasons:
        print_values({"note": list(found.reasons)}, err=True)
    for problem in found.left:
        typer.echo(str(problem), err=True)
    typer.echo(f"{path}: {f'{len(found.left)} problems remain' if found.left else 'intact'}")
    if found.left:
        raise SystemExit(1)


def _profile(profile: str | None, overrides: list[str]) -> "Profile | None":
    """The named profile; None stands for the parameters that the dataset records."""
    if profile is None:
        return None
    from spinmeround.flows.profile import load_profile

    return load_profile(profile, overrides)


def _digests(path: Path) -> str:
    """The digests of an intact dataset and of its latents, if it has any."""
    from spinmeround.storage.dataset import HeadDataset

    dataset = HeadDataset.open(path)
    return f"digest {dataset.digest}" + (f", latents {dataset.latents_digest}" if dataset.has_latents else "")


def _published(path: Path, store: Path | None) -> dict[str, str]:
    """What the publish artifacts of the run's store state for these heads; empty if there is no local store."""
    from spinmeround.storage.artifacts import ArtifactStore
    from spinmeround.storage.dataset import HeadDataset
    from spinmeround.tasks.dataset.publish import published_digests

    if (found := _run_store(path, store)) is None:
        return {}
    try:
        heads = HeadDataset.open(path, checked=False).ids
    except DatasetError:  # verify reports it
        return {}
    return published_digests(ArtifactStore(found), heads)


def _run_store(path: Path, store: Path | None) -> Path | None:
    """The store that is named, or that of the run that contains the dataset."""
    run = path.absolute().parent.parent
    return store or (run / "store" if (run / "store").is_dir() else None)


@contextmanager
def _repair_store(path: Path, store: Path | None) -> "Iterator[ArtifactStore]":
    """The store of the run that contains the dataset, or a temporary one."""
    from spinmeround.storage.artifacts import ArtifactStore
    from spinmeround.storage.files import owned_folder

    found = _run_store(path, store)
    if not path.is_dir():
        raise DatasetError(f"{path}: expected a dataset folder, found none")
    if found is not None:
        yield ArtifactStore(found)
    else:
        with owned_folder(path.absolute().parent / ".tmp", "repair-store") as folder:
            yield ArtifactStore(folder)
