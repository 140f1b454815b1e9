"""`spinmeround serve`: a Prefect server with its UI and all deployments, until it is stopped."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(rich_help_panel=panel)(serve)


def serve(
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs; the UI shows their history.")] = Path(
        "runs"
    ),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the server and its UI.")] = 4200,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", "-p", help="File of a profile of your own to serve, too; repeat it for more."),
    ] = None,
) -> None:
    """Start the Prefect server and UI, and serve each flow and stage as a deployment of each profile that can run."""
    from spinmeround.flows.server.deployments import serve_all

    if find_spec("uvicorn") is None:  # else only the log of the server's process would name it
        raise ModuleNotFoundError(name="uvicorn")
    serve_all(runs, port, profile or [])
