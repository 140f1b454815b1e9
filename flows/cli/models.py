"""`spinmeround models`: the registry of trained models in a store, their aliases and their promotion.

The store is that of `--store`, or of the run that `--profile`, `--runs` and `--out` name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.pipeline import DatasetOption, given_dataset
from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import print_values, table
from spinmeround.flows.cli.shared.run_flow import print_summary, run_flow
from spinmeround.flows.cli.store import opened_store

if TYPE_CHECKING:
    from spinmeround.storage.artifacts import ModelRegistry, ModelVersion, RegisteredModel
    from spinmeround.tasks.promotion.params import PromoteParams

models_app = typer.Typer(help="List, compare and promote trained models.", no_args_is_help=True)

ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="NAME@VERSION, NAME@ALIAS, or an alias of the profile's model.")
]
AliasOption = Annotated[str | None, typer.Option(help="The alias that it is about; default: promote.alias.")]
CommentOption = Annotated[str, typer.Option("--comment", "-m", help="Why; it is kept in the model's history.")]


@run_command(models_app, name="list")
def list_models(options: RunOptions) -> None:
    """List the versions of all models, with their aliases and the metric that promotion goes by."""
    with _registry(options) as (registry, params):
        models = [registry.get(name) for name in registry.names()]
        rows = [
            [
                f"{model.name}@{version.number}",
                ", ".join(model.aliases_of(version.number)),
                "" if (value := version.metrics.get(params.metric)) is None else f"{value:.4f}",
                f"{version.stage}/{version.key[:12]}",
                (version.dataset or "")[:12],
                f"{version.registered.time:%Y-%m-%d %H:%M}",
            ]
            for model in models
            for version in model.versions
        ]
        if rows:
            header = ["model", "aliases", params.metric, "training", "dataset", "registered (UTC)"]
            typer.echo(table(header, rows, names=2))
        else:
            print_values({"models": f"none in {registry.store.root}", "then": options.command("models promote")})


@run_command(models_app)
def show(model: ModelArgument, options: RunOptions) -> None:
    """Show a version: its training, dataset, metrics and card, and the history of the aliases that point to it."""
    with _registry(options) as (registry, params):
        name, version = registry.find(model, params.model)
        found = registry.get(name)
        print_values(
            {
                "model": f"{name}@{version.number}",
                "aliases": ", ".join(found.aliases_of(version.number)) or "none",
                "training": f"{version.stage}/{version.key}",
                "pipeline": version.pipeline,
                "dataset": version.dataset or "none",
                "evaluation": f"evaluate/{version.evaluation}, on {version.evaluated_on[:12]}",
                "registered": _stamped(version),
                "history": _history(found, version.number) or ["no alias has pointed to it"],
            }
        )
        typer.echo(f"\n{version.card.rstrip()}")


@run_command(models_app)
def promote(options: RunOptions, dataset: DatasetOption = None) -> None:
    """Register the trained model of the run, and promote it if it is better than the promoted one.

    Exits with status 1 if it is not promoted.
    """
    summary = run_flow(options, "spinmeround.flows.promotion:promotion_flow", **given_dataset(dataset))
    print_summary(summary, options, "evaluation", "promotion")
    if not summary["promotion"]["promoted"]:
        raise SystemExit(1)


@run_command(models_app)
def approve(
    model: ModelArgument,
    options: RunOptions,
    alias: AliasOption = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse the version; default: approve of it.")] = False,
    comment: CommentOption = "",
) -> None:
    """Answer whether an alias may be moved to a version; a paused promotion resumes with the answer."""
    from spinmeround.storage.artifacts import Answer, stamp
    from spinmeround.storage.artifacts.models import check_alias

    with _registry(options) as (registry, params):
        name, version = registry.find(model, params.model)
        about = alias or params.alias
        check_alias(about)
        answer = Answer(version=version.number, alias=about, approved=not refuse, comment=comment, given=stamp())
        registry.record_answer(name, answer)
        verdict = "refused" if refuse else "approved"
        print_values({verdict: f"{name}@{version.number} as {about}", "then": _resume_hint(options)})


@run_command(models_app)
def alias(
    model: ModelArgument,
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="The alias that shall point to it, as production.")],
    options: RunOptions,
    comment: CommentOption = "moved by hand",
) -> None:
    """Let an alias point to a version, whatever its metrics: to go back to an earlier one, for instance."""
    from spinmeround.storage.artifacts import stamp

    with _registry(options) as (registry, params):
        found, version = registry.find(model, params.model)
        registry.open(version)  # an alias never leads to a damaged model
        registry.move_alias(found, name, version.number, reason=comment, moved=stamp())
        print_values({name: f"{found}@{version.number}", "history": _moves(registry.get(found), name)})


@contextmanager
def _registry(options: RunOptions) -> Iterator[tuple["ModelRegistry", "PromoteParams"]]:
    """The registry of the store that the options name, and the section `promote` of the profile."""
    from spinmeround.storage.artifacts import ModelRegistry

    with opened_store(options) as store:
        yield ModelRegistry(store), options.load()[0].promote


def _resume_hint(options: RunOptions) -> str:
    return f"a paused promotion resumes; without one: {options.command('models promote')}"


def _stamped(version: "ModelVersion") -> str:
    made = version.registered
    return f"{made.time:%Y-%m-%d %H:%M} UTC by {made.by}" + (f", flow run {made.flow_run}" if made.flow_run else "")


def _history(model: "RegisteredModel", number: int) -> list[str]:
    """A line for each move of an alias to this version, and each answer about it, oldest first."""
    found = [
        (move.moved.time, f"{alias}, by {move.moved.by}: {move.reason}")
        for alias, moves in model.aliases.items()
        for move in moves
        if move.version == number
    ]
    found += [
        (
            answer.given.time,
            f"{answer.alias} {'approved' if answer.approved else 'refused'} by {answer.given.by}"
            + (f": {answer.comment}" if answer.comment else ""),
        )
        for answer in model.answers
        if answer.version == number
    ]
    return [f"{time:%Y-%m-%d %H:%M}  {text}" for time, text in sorted(found)]


def _moves(model: "RegisteredModel", alias: str) -> list[str]:
    return [f"{move.moved.time:%Y-%m-%d %H:%M}  {model.name}@{move.version}" for move in model.aliases[alias]]
