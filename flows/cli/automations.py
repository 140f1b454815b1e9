"""`spinmeround automations`: what the Prefect server starts on its own."""

from pathlib import Path
from typing import Annotated

import typer

from spinmeround.flows.cli.shared.output import print_values


def register(app: typer.Typer, panel: str) -> None:
    """Add the command."""
    app.command(rich_help_panel=panel)(automations)


def automations(
    runs: Annotated[Path, typer.Option("--runs", help="Folder of all runs, as of `spinmeround serve`.")] = Path("runs"),
) -> None:
    """Let the server retrain on each new dataset: one automation for each deployment of the flow `retraining`.

    Automations that people have paused or changed stay as they are.
    """
    from spinmeround.flows.server.network import server_errors
    from spinmeround.flows.server.process import configure, prefect_server
    from spinmeround.flows.server.settings import import_prefect

    with prefect_server(configure(runs, quiet=True)) as server:
        import_prefect()
        if server is not None:
            server.wait()
        with server_errors():
            done = added_automations()
    print_values({"automations": done}, width=12)


def added_automations() -> list[str]:
    """Create or update the automations on the server that PREFECT_API_URL names; a line for each."""
    from prefect.client.orchestration import get_client

    from spinmeround.flows.server.automations import keep_automations

    with get_client(sync_client=True) as client:
        return [f"{name}: {what}" for name, what in keep_automations(client).items()]
