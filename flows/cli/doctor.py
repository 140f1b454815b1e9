"""`spinmeround doctor`: checks this machine for the build of a profile."""

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from spinmeround.flows.cli.shared.options import RunOptions, run_command
from spinmeround.flows.cli.shared.output import NAME_WIDTH

if TYPE_CHECKING:
    from spinmeround.tasks.overview.doctor import Check


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    run_command(app, panel=panel)(doctor)


def doctor(
    options: RunOptions,
    name: Annotated[str | None, typer.Argument(metavar="[PROFILE]", help="Same as --profile.")] = None,
) -> None:
    """Check this machine for the build of a profile: GPU, libraries, generator, weights, store, disk, Prefect server.

    Prints a line for each, with what to do: an error fails the build, a warning slows it down or fails a later step.
    Exits with status 1 if there is an error.
    """
    from spinmeround.flows.run.folder import named_run
    from spinmeround.tasks.overview.doctor import check_machine

    profile, place = (options if name is None else replace(options, profile=name)).load()
    failed = 0
    for check in (*check_machine(profile, named_run(place, profile.name).store), *_server()):
        typer.echo(f"{check.state:<{NAME_WIDTH}} {check.name}: {check.found}")
        failed += check.state == "error"
    typer.echo(f"profile {profile.name}: {f'{failed} to mend before a build' if failed else 'ready to build'}")
    if failed:
        raise SystemExit(1)


def _server() -> "Iterator[Check]":
    from spinmeround.flows.server.environment import check_environment, without_password
    from spinmeround.flows.server.network import check_server
    from spinmeround.storage.errors import SpinMeRoundError, one_line
    from spinmeround.tasks.overview.doctor import Check

    api = os.environ.get("PREFECT_API_URL")
    if not api:
        missing = find_spec("uvicorn") is None
        found = (
            "Prefect is not installed: pip install 'spinmeround[build]'" if missing else "each command starts its own"
        )
        yield Check(name="Prefect server", state="error" if missing else "ok", found=found)
        return
    try:
        check_environment(api)
        check_server(api, patience_s=5.0)
    except SpinMeRoundError as error:
        yield Check(name="Prefect server", state="error", found=one_line(error, 400))
    else:
        yield Check(name="Prefect server", state="ok", found=without_password(api))
