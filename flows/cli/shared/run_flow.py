"""Runs a flow for a command, with a Prefect server, and prints the run's summary."""

import importlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from spinmeround.flows.cli.shared.options import RunOptions
from spinmeround.flows.cli.shared.output import print_values, table
from spinmeround.flows.run.progress import shown_progress
from spinmeround.flows.server.network import ServerUnavailable, server_errors
from spinmeround.flows.server.process import configure, prefect_server
from spinmeround.flows.server.settings import import_prefect

_UI = "http://127.0.0.1:4200"


def run_flow(options: RunOptions, entry: str, **arguments: Any) -> dict[str, Any]:
    """Run the flow `entry` (`module:name`) on the run of these options; returns the run's summary.

    Prefect is imported while the server starts, so the two overlap.
    """
    home = configure(options.runs, quiet=True)
    with prefect_server(home) as server:
        import_prefect()
        profile, place = options.load()
        from spinmeround.flows.review.approval import approve_command
        from spinmeround.flows.review.pause import review_command
        from spinmeround.flows.run.folder import open_run
        from spinmeround.flows.run.summary import written
        from spinmeround.flows.server.patience import limited_patience
        from spinmeround.flows.server.recording import wait_until_recorded
        from spinmeround.flows.stages import sized

        module, name = entry.split(":")
        flow = sized(getattr(importlib.import_module(module), name), profile)
        open_run(place, profile.name)
        if server is not None:
            server.wait()
        began, summaries = datetime.now(UTC), list[dict[str, Any]]()
        written.set(summaries)
        review_command.set(options.command("review"))
        approve_command.set(options.command("models approve"))
        try:
            with limited_patience(os.environ["PREFECT_API_URL"]), shown_progress(), server_errors():
                flow(profile=profile, place=place, **arguments)
        except ServerUnavailable as error:
            if not summaries or summaries[-1]["error"] is not None:
                raise
            typer.echo(f"the run is complete, but the UI does not show it: {error}", err=True)
        finally:
            wait_until_recorded(began)
        return summaries[-1]


def print_summary(summary: dict[str, Any], options: RunOptions, *parts: str) -> None:
    """Print these parts of a run's summary, where the run is, and how to open it in the UI."""
    formatters = {
        "heads": _heads,
        "dataset": _dataset,
        "training": _training,
        "evaluation": _evaluation,
        "ablation": _ablation,
        "promotion": _promotion,
        "reconstruction": _reconstruction,
    }
    for part in parts:
        if summary[part] is not None:
            print_values(formatters[part](summary[part]) if part in formatters else {part: summary[part]})
    made = sum(stage["made"] for stage in summary["stages"].values())
    reused = sum(stage["reused"] for stage in summary["stages"].values())
    runs = "" if options.runs == Path("runs") else f" --runs {options.runs}"
    print_values(
        {
            "artifacts": f"{made} made, {reused} reused",
            "run": summary["folder"],
            "UI": f"spinmeround serve{runs}, then open {_UI}",
        }
    )


def _heads(heads: dict[str, Any]) -> dict[str, object]:
    reasons = ", ".join(f"{number} {reason}" for reason, number in heads["screened_out"].items())
    counts = [
        f"{heads['asked']} requested",
        f"{heads['dropped']} screened out" + (f" ({reasons})" if reasons else ""),
        *([f"{heads['kept_by_review']} kept by review"] if heads["kept_by_review"] else []),
        f"{heads['quarantined']} quarantined",
        f"{heads['written']} written",
        *([f"{heads['pending']} pending"] if heads["pending"] else []),
    ]
    return {"heads": ", ".join(counts)}


def _dataset(dataset: dict[str, Any]) -> dict[str, object]:
    return {"dataset": dataset["path"], "digest": dataset["digest"]}


def _training(training: dict[str, Any]) -> dict[str, object]:
    """A line for each phase; without steps, the pipeline alone."""
    lines = [
        f"{phase['stage']}: {phase['steps']} steps, loss {phase['loss_first']:.4f} to {phase['loss_last']:.4f}"
        for phase in training["phases"]
        if phase["steps"]
    ]
    shown = {"training": lines, "pipeline": training["pipeline"]}
    return {name: value for name, value in shown.items() if value}


def _evaluation(evaluation: dict[str, Any]) -> dict[str, object]:
    """Means with 95% intervals, p-values of the paired test with the model, and the reasons for missing metrics."""
    from spinmeround.tasks.evaluation.table import metric_table, missing_lines

    lines = table(*metric_table(evaluation)).splitlines()
    return {"evaluation": [*lines, *missing_lines(evaluation)]}


def _ablation(ablation: dict[str, Any]) -> dict[str, object]:
    """The table of an evaluation with the variants as methods, the model minus each, and the figure."""
    from spinmeround.tasks.ablation.table import ordering_table

    lines = table(*ordering_table(ablation["orderings"]), names=2).splitlines()
    shown = _evaluation(ablation["table"])["evaluation"]
    figure = Path(ablation["folder"]) / "figure.png"
    return {"ablation": shown, "orderings": lines, "figure": figure}


def _promotion(found: dict[str, Any]) -> dict[str, object]:
    """The version, the outcome and its reason."""
    outcome = "promoted to" if found["promoted"] else "not promoted to"
    return {"model": [f"{found['model']}@{found['version']}, {outcome} {found['alias']}", found["reason"]]}


def _reconstruction(found: dict[str, Any]) -> dict[str, object]:
    """The scores of the held-out views, and of the true views if they are known, one line each."""
    scores = {"held-out views": found["held_out"], "true views": found.get("truth")}
    lines = [f"{found['gaussians']} splats from {len(found['fitted_views'])} views, in {found['folder']}"]
    lines += [f"{name}: {_scores(values)}" for name, values in scores.items() if values is not None]
    return {"splats": lines}


def _scores(values: dict[str, float | None]) -> str:
    from spinmeround.models.metrics.definitions import metric_of

    measured = {metric_of(name): value for name, value in values.items() if value is not None}
    return ", ".join(f"{metric.label} {metric.text(value)}{metric.suffix}" for metric, value in measured.items())
