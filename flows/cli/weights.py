"""`spinmeround weights`: lists the external parts with licence and source, checks them, and fetches them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import OverridesOption
from spinmeround.flows.cli.shared.output import aligned, table
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.weights import PARTS, WEIGHTS_FOLDER, Hub, Part, find_part

if TYPE_CHECKING:
    from spinmeround.tasks.weights.check import Finding

weights_app = typer.Typer(
    help="List, check and fetch external weights. Never downloads automatically.\n\n"
    "The parts are PanoHead, InsightFace packs, Arc2Face, Stable Diffusion and LPIPS.",
    no_args_is_help=True,
)
ToOption = Annotated[Path, typer.Option("--to", help="Folder of all weights.")]


@weights_app.command("list")
def list_parts(name: Annotated[str | None, typer.Argument(help="Name of a part; default: all parts.")] = None) -> None:
    """List each part with its purpose, licence, source and on-disk layout."""
    for each in [find_part(name)] if name else PARTS:
        typer.echo(_description(each))


@weights_app.command()
def check(
    profile: Annotated[str, typer.Argument(help="Name of a profile, or a .toml file.")] = "panohead",
    overrides: OverridesOption = None,
) -> None:
    """Check that every part of a profile is present and intact; exits with status 1 otherwise."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.weights.check import check as check_part
    from spinmeround.tasks.weights.check import parts_of

    findings = [check_part(use) for use in parts_of(load_profile(profile, overrides or []))]
    rows = [row for finding in findings for row in _finding_rows(finding)]
    typer.echo(table(("state", "part", "found"), rows, names=2))
    bad = [finding for finding in findings if not finding.good]
    summary = f"{len(bad)} missing or defective" if bad else "all present"
    typer.echo(f"profile {profile}: {len(findings)} parts, {summary}")
    if bad:
        raise SystemExit(1)


@weights_app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Parts to fetch; 'spinmeround weights list' names them.")],
    to: ToOption = WEIGHTS_FOLDER,
) -> None:
    """Download parts from the Hugging Face Hub after printing their licences; resumes interrupted downloads."""
    from spinmeround.storage.weights import fetch_part

    for each in [find_part(name) for name in names]:
        typer.echo(f"{each.name}: {each.licence}")
        place = fetch_part(each, to, on_message=typer.echo)
        typer.echo(f"{each.name}: {place}, SHA-256 recorded")


@weights_app.command()
def train(
    name: Annotated[str, typer.Argument(help="recognition, detector, inspector, autoencoder or multiview.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of the weights and their card.")] = Path("runs/weights"),
    overrides: OverridesOption = None,
) -> None:
    """Train weights that ship with the package, from nothing, and write them with their card.

    An option is a field of `tasks.embedded.params`, as in `--set steps=100`. The multiview model is trained with the
    section `train` of the profile `embedded`; it reads the autoencoder and the recognition network that ship, and
    continues an interrupted training.
    """
    from spinmeround.flows.profile import load_profile, parse_overrides
    from spinmeround.tasks.embedded.train_all import train_weights

    params = parse_overrides(overrides or [])
    if name == "multiview":
        profile = load_profile("embedded", [each for each in overrides or [] if each.startswith("train.")])
        params = {"work": to / "work", **params, "train": profile.train.model_dump()}
    typer.echo(str(train_weights(name, params, to, typer.echo)))


@weights_app.command()
def stub(
    folder: Annotated[Path, typer.Argument(help="Folder to write to; existing files are kept.")],
    small: Annotated[
        bool, typer.Option("--small", help="Small networks of the same architecture, for quick trials.")
    ] = False,
    panohead_checkout: Annotated[
        Path | None, typer.Option(help="A checkout of PanoHead, whose own classes build the generator's network.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
) -> None:
    """Write all parts with random weights in the published formats, to rehearse a profile without its weights."""
    from spinmeround.tasks.weights.stub import write_stubs

    for path in write_stubs(folder, small=small, panohead_checkout=panohead_checkout, seed=seed):
        typer.echo(str(path))


@weights_app.command()
def average(
    training: Annotated[Path, typer.Argument(help="Folder of a training's result, which has averages/.")],
    length: Annotated[float, typer.Option(help="Length of the average: the spread of its steps, as a share of all.")],
    out: Annotated[Path, typer.Option(help="New folder for the pipeline, or for the networks of adapt.")],
) -> None:
    """Write the networks with another average of a training's weights, from its snapshots (train.average.snapshots)."""
    from spinmeround.tasks.quiet_libraries import silence_libraries
    from spinmeround.tasks.training.output.result import rewrite_average

    silence_libraries()
    if not any((training / name).is_dir() for name in ("pipeline", "networks")):
        raise ConfigError(f"{training}: expected a training's result with pipeline/ or networks/, found none")
    if out.exists():
        raise ConfigError(f"--out {out}: expected a new folder, found an existing one; choose another")
    typer.echo(str(rewrite_average(training, length, out)))


def _description(each: Part) -> str:
    files = {"files": ", ".join(each.source.files)} if isinstance(each.source, Hub) else {}
    values: dict[str, object] = {
        "for": each.purpose,
        "licence": each.licence,
        "from": each.source.page,
        **files,
        "get it": each.command(each.place()),
        "place": f"{each.place()}" + (f" ({', '.join(each.files)})" if each.files else ""),
        **({"or": f"--set {each.field}=PATH"} if each.field else {}),
    }
    return f"{each.name}\n{aligned(values, width=8, indent=2)}"


def _finding_rows(finding: "Finding") -> list[tuple[str, str, str]]:
    use = finding.use
    rows: list[tuple[str, str, str]] = [(finding.state, use.name, f"{', '.join(use.fields)}: {finding.seen}")]
    if finding.command:
        rows.append(("", "", f"get it: {finding.command}"))
    return rows
