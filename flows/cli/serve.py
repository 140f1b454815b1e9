"""`spinmeround serve`: a Prefect server with its UI and all deployments, until it is stopped; `spinmeround deploy`: the
same deployments on a work pool of another server."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.output import print_values
from spinmeround.flows.server.process import LOOPBACK, running_server
from spinmeround.storage.errors import ConfigError


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    for command in (serve, deploy):
        app.command(rich_help_panel=panel)(command)


RunsOption = Annotated[Path, typer.Option("--runs", help="Folder of all runs; the UI shows their history.")]
ProfilesOption = Annotated[
    list[str] | None,
    typer.Option("--profile", "-p", help="File of a profile of your own, too; repeat it for more."),
]


def serve(
    runs: RunsOption = Path("runs"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port of the server and its UI.")] = 4200,
    host: Annotated[
        str,
        typer.Option(help="Address to listen on; 0.0.0.0: all networks, with PREFECT_SERVER_API_AUTH_STRING."),
    ] = LOOPBACK,
    profile: ProfilesOption = None,
) -> None:
    """Start the Prefect server and UI, and serve each flow and stage as a deployment of each profile that can run."""
    from spinmeround.flows.server.deployments import serve_all

    if find_spec("uvicorn") is None:  # else only the log of the server's process would name it
        raise ModuleNotFoundError(name="uvicorn")
    serve_all(runs, port, profile or [], host)


def deploy(
    pool: Annotated[str, typer.Option(help="Work pool; made, of the type process, if it does not exist.")] = "heads",
    runs: RunsOption = Path("runs"),
    profile: ProfilesOption = None,
    file: Annotated[
        Path | None,
        typer.Option(help="Schedules and limits of deployments, as in the prefect.yaml of this project."),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Start the retraining on each new dataset, as 'spinmeround automations'.")
    ] = False,
) -> None:
    """Register each flow and stage as a deployment on a work pool of the server that PREFECT_API_URL names.

    Any number of workers, on machines that see the folder of runs, then do the work. Schedules, limits and parameters
    that people have changed in the UI are kept.
    """
    from spinmeround.flows.cli.automations import added_automations
    from spinmeround.flows.server.deploying import deploy as register_deployments
    from spinmeround.flows.server.deploying import read_deploy_file
    from spinmeround.flows.server.network import server_errors
    from spinmeround.flows.server.process import configure, prefect_server
    from spinmeround.flows.server.settings import import_prefect

    entries = read_deploy_file(file) if file is not None else {}
    home = configure(runs, quiet=True)
    if not os.environ.get("PREFECT_API_URL") and running_server(home) is None:
        raise ConfigError(
            "PREFECT_API_URL: expected the API of a running server, as http://127.0.0.1:4200/api, found none; start "
            "one with 'prefect server start' and set the variable"
        )
    with prefect_server(home), server_errors():
        import_prefect()
        names = register_deployments(runs, pool, profile or [], entries)
        if retrain:
            print_values({"automations": added_automations()}, width=12)
    print_values(
        {"deployed": f"{len(names)} deployments", "pool": pool, "worker": f"prefect worker start --pool {pool}"}
    )
