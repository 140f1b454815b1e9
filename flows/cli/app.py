"""The command line: composes the commands and turns errors into exit statuses.

Exit status 0: the requested result exists. 1: a check found problems. 2: a user or environment error, printed in one
or two lines without a traceback. 130: interrupted. Commands import heavy libraries only when they run, so `--help` and
commands that only read stay fast.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

import spinmeround
from spinmeround.flows.cli import (
    ablate,
    align,
    automations,
    bench,
    diff,
    doctor,
    export,
    heads,
    pipeline,
    plan,
    reconstruct,
    rehearse,
    review,
    serve,
)
from spinmeround.flows.cli.dataset import dataset_app
from spinmeround.flows.cli.generate import generate_app
from spinmeround.flows.cli.models import models_app
from spinmeround.flows.cli.screen import screen_app
from spinmeround.flows.cli.store import store_app
from spinmeround.flows.cli.weights import weights_app
from spinmeround.flows.server.environment import bypass_proxies
from spinmeround.storage.errors import (
    SpinMeRoundError,
    device_failure,
    file_failure,
    one_line,
    shortened,
    validation_message,
)
from spinmeround.storage.extras import missing_extra

_WORDS = "spinmeround.words"
"""Key of the command line in click's context."""


class Commands(TyperGroup):
    """Prints user errors in one or two lines and exits with status 2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SpinMeRoundError as error:
            raise _failed(str(error)) from error
        except ModuleNotFoundError as error:
            message = missing_extra(error)
            if message is None:
                raise
            raise _failed(f"this command {message}") from error
        except KeyboardInterrupt:
            typer.echo("interrupted; run the same command again to resume", err=True)
            raise SystemExit(130) from None
        except Exception as error:
            message = _environment_or_worker(error)
            if message is None:
                raise
            raise _failed(f"{_place(error, ctx.meta[_WORDS])}{message}") from error


def _environment_or_worker(error: Exception) -> str | None:
    """The line for an error that a user can act on although it is none of ours; None for a defect of the software."""
    if (failure := device_failure(error) or file_failure(error)) is not None:
        return str(failure)
    if isinstance(error, ValidationError):
        return validation_message(error)
    if isinstance(error, EOFError):  # click would print "Aborted."
        return f"expected more data, found the end of a file ({one_line(error)}); the file is incomplete"
    return f"{error} (the run's log in the UI has the traceback)" if _is_worker_error(error) else None


def _place(error: Exception, words: tuple[str, ...]) -> str:
    """The option, overridden field or argument of the command line that leads to the file of an error, if one does."""
    name = getattr(error, "filename", None)
    if not isinstance(name, str):
        return ""
    found: dict[str, str] = {}
    for before, word in zip(("", *words), words, strict=False):
        label, _, value = word.rpartition("=")
        found[value] = label or (before if before.startswith("-") else "argument")
    led = [value for value in found if Path(value).name in Path(name).parts]
    return f"{shortened(found[max(led, key=len)], 80)}: " if led else ""


def _failed(message: str) -> SystemExit:
    typer.echo(f"error: {message}", err=True)
    return SystemExit(2)


def _is_worker_error(error: Exception) -> bool:
    from spinmeround.flows.run.workers import CallFailed, WorkerLost

    return isinstance(error, CallFailed | WorkerLost)


app = typer.Typer(
    cls=Commands,
    help="Build synthetic head datasets, train a multi-view identity model on them, and generate views with it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"spinmeround {spinmeround.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


_PIPELINE, _RESULTS, _DATA, _SERVICES = "Pipeline", "Heads and views", "Data and weights", "Services"

pipeline.register(app, _PIPELINE)
ablate.register(app, _PIPELINE)
review.register(app, _PIPELINE)
plan.register(app, _PIPELINE)
doctor.register(app, _PIPELINE)
rehearse.register(app, _PIPELINE)
app.add_typer(generate_app, name="generate", rich_help_panel=_RESULTS)
reconstruct.register(app, _RESULTS)
diff.register(app, _RESULTS)
heads.register(app, _RESULTS)
export.register(app, _RESULTS)
align.register(app, _RESULTS)
app.add_typer(dataset_app, name="dataset", rich_help_panel=_DATA)
app.add_typer(store_app, name="store", rich_help_panel=_DATA)
app.add_typer(models_app, name="models", rich_help_panel=_DATA)
app.add_typer(weights_app, name="weights", rich_help_panel=_DATA)
app.add_typer(screen_app, name="screen", rich_help_panel=_DATA)
serve.register(app, _SERVICES)
automations.register(app, _SERVICES)
bench.register(app, _SERVICES)


def main() -> None:
    """Entry point of `spinmeround`."""
    if sys.getfilesystemencoding() != "utf-8":  # a locale of ASCII or Latin-1: start again in Python's UTF-8 mode
        os.environ["PYTHONUTF8"] = "1"  # for the workers, too
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files that are not UTF-8 are escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    bypass_proxies()
    app()
