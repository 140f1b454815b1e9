"""The command line: reads what is asked, runs a flow, prints what came of it.

Exit status 0 only when what was asked is there. The user's mistakes are told in a line or two, without a
traceback. Whatever takes long to import is imported by the command that needs it.
"""

import importlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from spinmeround.flows.cli import align, plan, rehearse
from spinmeround.flows.cli import generate as generate_command
from spinmeround.flows.cli.dataset import dataset_app
from spinmeround.flows.cli.options import RunOptions, run_command
from spinmeround.flows.cli.store import store_app
from spinmeround.flows.cli.weights import app as weights_app
from spinmeround.flows.run.progress import shown_progress
from spinmeround.flows.run.workers import CallFailed, WorkerLost
from spinmeround.flows.server.process import configure, engine_server
from spinmeround.storage.errors import SpinMeRoundError, as_config_error


class Commands(TyperGroup):
    """Tells the user's mistakes in their own words and leaves with status 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SpinMeRoundError as error:
            typer.echo(f"error: {error}", err=True)
            raise SystemExit(2) from error
        except (CallFailed, WorkerLost) as error:
            typer.echo(f"error: {error} (the log of the run in the UI has the traceback)", err=True)
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            typer.echo("interrupted; the same command goes on from here", err=True)
            raise SystemExit(130) from None


app = typer.Typer(
    cls=Commands,
    help="From seeds to a trained multi-view identity model: synthetic heads, a dataset, training, a report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(dataset_app, name="dataset")
screen_app = typer.Typer(help="How heads are screened.", no_args_is_help=True)
app.add_typer(screen_app, name="screen")
app.add_typer(store_app, name="store")
plan.register(app)
generate_command.register(app)
app.add_typer(weights_app, name="weights")
align.register(app)
rehearse.register(app)

RetryOption = Annotated[bool, typer.Option("--retry-quarantined", help="Try the heads again that failed for good.")]


def main() -> None:
    """Entry point of `spinmeround`."""
    app()


@run_command(app)
def demo(options: RunOptions, retry_quarantined: RetryOption = False) -> None:
    """Everything, from seeds to a report."""
    summary = run_flow(options, "spinmeround.flows.workflow:workflow_flow", retry_quarantined=retry_quarantined)
    tell(summary, options, "heads", "dataset", "training", "evaluation", "report")


@run_command(app)
def build(options: RunOptions, retry_quarantined: RetryOption = False) -> None:
    """Build and publish the dataset of a profile."""
    summary = run_flow(options, "spinmeround.flows.dataset:dataset_flow", retry_quarantined=retry_quarantined)
    tell(summary, options, "heads", "dataset")


@run_command(app)
def stage(name: Annotated[str, typer.Argument(help="sample, screen, render, ...")], options: RunOptions) -> None:
    """Run one stage of the heads, and no other."""
    tell(run_flow(options, "spinmeround.flows.stages:stage_flow", stage=name), options, "heads")


@run_command(app)
def review(
    options: RunOptions,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page on this machine; 0: any.")] = 4280,
    to: Annotated[Path | None, typer.Option(help="Write the page to this .html file instead of serving it.")] = None,
    merge: Annotated[list[Path] | None, typer.Option(help="Take in a decisions file, as a page downloads it.")] = None,
    done: Annotated[bool, typer.Option("--done", help="The verdicts are reviewed as they stand: go on.")] = False,
) -> None:
    """Look through the screened heads in the browser and keep or drop them, over the screen's word."""
    from spinmeround.flows.cli.review import review_run

    review_run(options, port=port, to=to, merge=merge or [], done=done)


@run_command(app)
def train(options: RunOptions) -> None:
    """Train on the published dataset of a profile; goes on where an earlier training was ended."""
    tell(run_flow(options, "spinmeround.flows.training:training_flow"), options, "dataset", "training")


@run_command(app)
def evaluate(options: RunOptions) -> None:
    """Measure the trained model on held-out heads, against the truth and against baselines."""
    tell(run_flow(options, "spinmeround.flows.evaluation:evaluation_flow"), options, "dataset", "evaluation")


@run_command(app)
def report(options: RunOptions) -> None:
    """Write the report of a run, with whatever has been done of it."""
    tell(run_flow(options, "spinmeround.flows.report:report_flow"), options, "report")


@app.command()
def generate(
    seeds: Annotated[str, typer.Option(help="FIRST:END, or seeds with commas.")] = "0:48",
    strip: Annotated[tuple[int, int] | None, typer.Option(help="Two seeds: shows the way between them.")] = None,
    steps: Annotated[int, typer.Option(min=2, help="Heads of a strip.")] = 9,
    defects: Annotated[bool, typer.Option("--defects", help="Every defect, on the head of the first seed.")] = False,
    azimuths: Annotated[str, typer.Option(help="Views of each head: degrees with commas, 0 is the front.")] = "25",
    resolution: Annotated[int, typer.Option(min=16, max=1024, help="Side of a view.")] = 128,
    columns: Annotated[int, typer.Option(min=1, help="Heads in a row.")] = 8,
    profile: Annotated[str, typer.Option("--profile", "-p", help="Whose generator: a name, or a .toml file.")] = "demo",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override, as generator.name=...")] = None,
    to: Annotated[Path, typer.Option(help="The picture, .png or .webp.")] = Path("heads.png"),
) -> None:
    """Look at what a generator makes: one picture of many heads."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.panohead_bridge.registry import make_generator
    from spinmeround.tasks.pictures import gallery
    from spinmeround.tasks.pictures.contact_sheet import check_sheet_name, save_contact_sheet

    check_sheet_name(to)
    with as_config_error("generator: "):
        # nothing is screened here, so limits for another generator are no matter
        generator = make_generator(load_profile(profile, [*(overrides or []), "screen.generator=''"]).generator)
    params = gallery.gallery_params(azimuths, resolution, columns)
    chosen = gallery.parse_seeds(seeds)
    if strip is not None:
        sheet = gallery.strip_sheet(generator, strip, steps, params)
    elif defects:
        sheet = gallery.defects_sheet(generator, chosen[0], params)
    else:
        sheet = gallery.seeds_sheet(generator, chosen, params)
    save_contact_sheet(to, sheet)
    typer.echo(f"{'sheet':<10} {to}")


@run_command(screen_app)
def calibrate(
    options: RunOptions,
    keep: Annotated[float | None, typer.Option(help="Share of the sound heads to keep at least.")] = None,
    recall: Annotated[float | None, typer.Option(help="Share of the spoilt heads to drop at least.")] = None,
    labels: Annotated[str, typer.Option(help="'truth' of the generator, or a review's decisions file.")] = "truth",
) -> None:
    """Choose the screen's limits from labelled heads: scores the profile's heads, and tells what to expect."""
    from spinmeround.tasks.screening.calibrate import calibrate_params

    params = calibrate_params(labels, keep=0.95 if keep is None and recall is None else keep, recall=recall)
    run_flow(options, "spinmeround.flows.calibration:calibration_flow", params=params)


@run_command(app)
def export(
    head: Annotated[str, typer.Argument(help="Id of a head whose mesh and views are made.")],
    options: RunOptions,
    to: Annotated[Path, typer.Option(help="File to write: .glb, .ply or .obj.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a head's mesh, in the colours of its pictures, for any viewer."""
    from spinmeround.flows.cli.export import export_from_run

    mesh = export_from_run(options, head, to, force=force)
    typer.echo(f"{'mesh':<10} {to} ({len(mesh.vertices)} vertices, {len(mesh.faces)} faces)")


@app.command()
def serve(
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs, whose history is shown.")] = Path("runs"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the server and its UI.")] = 4200,
) -> None:
    """Start the Prefect server and its UI, and serve all flows as deployments for the profiles that can run here."""
    from spinmeround.flows.server.deployments import serve_all

    serve_all(runs, port)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Which; without it, all are listed.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="File to keep the tables in.")] = None,
) -> None:
    """Measure: `spinmeround bench NAME --help` tells the options of one benchmark."""
    from spinmeround.flows.cli.bench import benchmarks, run_benchmark

    if name is None or name == "--help":
        for known, about in benchmarks().items():
            typer.echo(f"{known:<12} {about}")
        return
    run_benchmark(name, context.args, json_file)


def run_flow(options: RunOptions, entry: str, **arguments: Any) -> dict[str, Any]:
    """Run one flow, with a Prefect server there meanwhile; returns the run's summary."""
    home = configure(options.runs, quiet=True)
    with engine_server(home) as server:
        profile, place = options.load()
        from spinmeround.flows.review.pause import review_command
        from spinmeround.flows.run.folder import open_run
        from spinmeround.flows.server.recording import settle
        from spinmeround.flows.stages import sized

        module, name = entry.split(":")
        flow = sized(getattr(importlib.import_module(module), name), profile)
        folder = open_run(place, profile.name)
        if server is not None:
            server.wait()
        began = datetime.now(UTC)
        review_command.set(options.command("review"))
        try:
            with shown_progress():
                flow(profile=profile, place=place, **arguments)
        finally:
            settle(began)
        return dict(json.loads(folder.summary.read_text()))


def tell(summary: dict[str, Any], options: RunOptions, *parts: str) -> None:
    """Print what came of a run, and where it is."""
    tellers = {"heads": _heads, "dataset": _dataset, "training": _training, "evaluation": _evaluation}
    for part in parts:
        if summary[part] is not None:
            typer.echo(tellers[part](summary[part]) if part in tellers else f"{part:<10} {summary[part]}")
    made = sum(stage["made"] for stage in summary["stages"].values())
    reused = sum(stage["reused"] for stage in summary["stages"].values())
    typer.echo(f"{'artifacts':<10} {made} made, {reused} reused")
    typer.echo(f"{'run':<10} {summary['folder']}")
    runs = "" if options.runs == Path("runs") else f" --runs {options.runs}"
    typer.echo(f"{'UI':<10} spinmeround serve{runs}, then open http://127.0.0.1:4200")


def _heads(heads: dict[str, Any]) -> str:
    reasons = ", ".join(f"{number} {reason}" for reason, number in heads["screened_out"].items())
    dropped = f"{heads['dropped']} screened out" + (f" ({reasons})" if reasons else "")
    rescued = f", {heads['kept_by_review']} kept by review" if heads["kept_by_review"] else ""
    rest = f"{heads['quarantined']} quarantined, {heads['written']} written"
    rest += f", {heads['pending']} not made yet" if heads["pending"] else ""
    return f"{'heads':<10} {heads['asked']} asked, {dropped}{rescued}, {rest}"


def _dataset(dataset: dict[str, Any]) -> str:
    return f"{'dataset':<10} {dataset['path']}\n{'digest':<10} {dataset['digest']}"


def _training(training: dict[str, Any]) -> str:
    first, last = training["loss_first"], training["loss_last"]
    return f"{'training':<10} {training['steps']} steps, loss {first:.4f} to {last:.4f}"


def _evaluation(evaluation: dict[str, Any]) -> str:
    rows = {"model": evaluation["model"], **evaluation["baselines"]}
    lines: list[str] = []
    for name, metrics in rows.items():
        known = ", ".join(f"{metric} {value:.3f}" for metric, value in metrics.items() if value is not None)
        lines.append(f"{'evaluation' if not lines else '':<10} {name.replace('_', ' ')}: {known}")
    return "\n".join(lines)
