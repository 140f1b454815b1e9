"""A standing Prefect server with its UI, and every flow as a deployment for each profile.

The forms in the UI come from the pydantic models of the profile. While it runs, commands on the same folder
of runs use this server instead of one of their own, so that their runs are seen there as they go.
"""

import os
from pathlib import Path
from typing import Any, cast

import typer

from flows.server import OwnServer, announce, configure, standing_server, withdraw
from storage.errors import ConfigError


def serve_all(runs: Path, port: int) -> None:
    """Serve until interrupted.

    Raises ConfigError where the port is taken or these runs are served already.
    """
    home = configure(runs, quiet=False)
    if found := standing_server(home):
        raise ConfigError(f"--runs {runs}: these runs are served already, at {found.removesuffix('/api')}")
    # a run that the UI started sizes its threads by this, since it does not come through the command line
    os.environ.setdefault("PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", str(os.cpu_count() or 1))
    server = OwnServer(home, port=port, ui=True)
    os.environ["PREFECT_API_URL"] = server.api
    try:
        server.wait()
        announce(home, server.api)
        typer.echo(f"UI: http://127.0.0.1:{port}   (runs in {runs.absolute()}, end with Ctrl-C)")
        _serve_deployments(runs)
    finally:
        withdraw(home)
        server.close()


def _serve_deployments(runs: Path) -> None:
    from prefect import Flow, serve
    from prefect.deployments.runner import EntrypointType, RunnerDeployment

    from flows.dataset import dataset_flow
    from flows.evaluation import evaluation_flow
    from flows.profile import load_profile, profile_names
    from flows.report import report_flow
    from flows.run_folder import Place
    from flows.stages import stage_flow
    from flows.training import training_flow
    from flows.workflow import workflow_flow

    flows: dict[Flow[..., Any], dict[str, str]] = {
        workflow_flow: {},
        dataset_flow: {},
        training_flow: {},
        evaluation_flow: {},
        report_flow: {},
        stage_flow: {"stage": "sample"},
    }
    place = Place(runs=str(runs.absolute())).model_dump()
    deployments = [
        flow.to_deployment(
            name=name,
            parameters={"profile": load_profile(name).model_dump(mode="json"), "place": place, **more},
            entrypoint_type=EntrypointType.MODULE_PATH,
            tags=[name],
        )
        for name in profile_names()
        for flow, more in flows.items()
    ]
    serve(*cast(list[RunnerDeployment], deployments), print_starting_message=False)
