"""A standing Prefect server with its UI, and every flow as a deployment for each profile that can run here.

The forms in the UI come from the pydantic models of the profile. While it runs, commands on the same folder
of runs use this server instead of one of their own, so that their runs are seen there as they go.
"""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from spinmeround.flows.run.folder import Place
from spinmeround.flows.server.process import ServerProcess, announce, configure, running_server, withdraw
from spinmeround.storage.errors import ConfigError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

    from spinmeround.flows.profile import Profile


def serve_all(runs: Path, port: int) -> None:
    """Serve until interrupted or terminated.

    Raises ConfigError where the port is taken or these runs are served already.
    """
    home = configure(runs, quiet=False)
    if found := running_server(home):
        raise ConfigError(f"--runs {runs}: these runs are served already, at {found.removesuffix('/api')}")
    # a run that the UI started sizes its threads by this, since it does not come through the command line
    os.environ.setdefault("PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", str(os.cpu_count() or 1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the runner, which has its own, is there
    server = ServerProcess(home, port=port, ui=True)
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
    from prefect import serve

    # nothing is scheduled, so there is nothing to pause: that takes long and would keep the end waiting
    serve(*deployments(runs), print_starting_message=False, pause_on_shutdown=False)


def deployments(runs: Path) -> "list[RunnerDeployment]":
    """Every flow for every shipped profile whose generator can be made on this machine."""
    from prefect.deployments.runner import EntrypointType, RunnerDeployment

    found = []
    for profile in _servable_profiles():
        place = Place(runs=str(runs.absolute()))
        common = {"profile": profile.model_dump(mode="json"), "place": place.model_dump()}
        for flow, more in _flows(runs.absolute() / profile.name).items():
            deployment = flow.to_deployment(
                name=profile.name,
                parameters={**common, **more},
                entrypoint_type=EntrypointType.MODULE_PATH,
                tags=[profile.name],
            )
            found.append(cast(RunnerDeployment, deployment))
    return found


def _servable_profiles() -> "list[Profile]":
    from spinmeround.flows.profile import load_profile, profile_names
    from spinmeround.tasks.heads.generator import generator_of

    servable = []
    for profile in map(load_profile, profile_names()):
        try:
            generator_of({"generator": profile.generator})
        except ValueError as error:
            typer.echo(f"profile {profile.name} is left out: {' '.join(str(error).split())}", err=True)
        else:
            servable.append(profile)
    return servable


def _flows(run: Path) -> "dict[Flow[..., Any], dict[str, Any]]":
    """All flows, with what their forms hold besides the profile and the place of its run."""
    from spinmeround.flows.calibration import calibration_flow
    from spinmeround.flows.dataset import dataset_flow
    from spinmeround.flows.evaluation import evaluation_flow
    from spinmeround.flows.generation import sampling_flow
    from spinmeround.flows.report import report_flow
    from spinmeround.flows.stages import stage_flow
    from spinmeround.flows.training import training_flow
    from spinmeround.flows.workflow import workflow_flow

    return {
        workflow_flow: {},
        dataset_flow: {},
        training_flow: {},
        evaluation_flow: {},
        report_flow: {},
        stage_flow: {"stage": "sample"},
        sampling_flow: {"params": {"condition": "nothing"}, "folder": str(run / "samples")},
        calibration_flow: {"params": {"keep": 0.95}},
    }
