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
    from spinmeround.flows.server.automations import keep_automations
    from spinmeround.flows.server.network import server_errors
    from spinmeround.flows.server.process import configure, prefect_server
    from spinmeround.flows.server.settings import import_prefect

    with prefect_server(configure(runs, quiet=True)) as server:
        import_prefect()
        from prefect.client.orchestration import get_client

        if server is not None:
            server.wait()
        with server_errors(), get_client(sync_client=True) as client:
            done = keep_automations(client)
    print_values({"automations": [f"{name}: {what}" for name, what in done.items()]}, width=12)
