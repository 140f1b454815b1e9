"""`spinmeround serve`: a Prefect server with its UI, and every flow as a deployment of each available profile.

The forms in the UI come from the pydantic models of the profile. While the server runs, commands on the same folder of
runs use it instead of starting their own, so that the UI shows their runs live.
"""

import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from spinmeround.flows.run.folder import Place
from spinmeround.flows.server.environment import check_environment
from spinmeround.flows.server.process import (
    ServerProcess,
    announce,
    authenticate,
    configure,
    running_server,
    withdraw,
)
from spinmeround.flows.server.registration import keep_changes
from spinmeround.flows.server.settings import import_prefect
from spinmeround.storage.errors import ConfigError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.deployments.runner import RunnerDeployment

    from spinmeround.flows.profile import Profile


def serve_all(runs: Path, port: int) -> None:
    """Serve until interrupted or terminated.

    Raises ConfigError if the port is taken or another server serves these runs.
    """
    home = configure(runs, quiet=False)
    if found := running_server(home):
        raise ConfigError(f"--runs {runs}: another server serves these runs at {found.removesuffix('/api')}")
    # limits the task threads of flows started in the UI; the command line passes its own limit
    os.environ.setdefault("PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", str(os.cpu_count() or 1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until Prefect's runner installs its own handler
    check_environment(None)
    authenticate()
    import_prefect()
    with ExitStack() as cleanup:
        server = ServerProcess(home, port=port, ui=True)
        cleanup.callback(server.close)
        os.environ["PREFECT_API_URL"] = server.api
        server.wait()
        cleanup.callback(withdraw, home)
        announce(home, server.api)
        typer.echo(f"UI: http://127.0.0.1:{port}   (runs in {runs.absolute()}, stop with Ctrl-C)")
        _serve_deployments(runs)


def _serve_deployments(runs: Path) -> None:
    from prefect import serve
    from prefect.client.orchestration import get_client

    found = deployments(runs)
    with get_client(sync_client=True) as client:
        keep_changes(found, client)
    # schedules are people's: they stay active, and runs that are due in the meantime are late
    serve(*found, print_starting_message=False, pause_on_shutdown=False)


def deployments(runs: Path) -> "list[RunnerDeployment]":
    """Every flow for every shipped profile whose generator is available on this machine."""
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    found = []
    for profile in _available_profiles():
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


def _available_profiles() -> "list[Profile]":
    from spinmeround.flows.profile import load_profile, profile_names
    from spinmeround.tasks.heads.generator import generator_of

    available = []
    for profile in map(load_profile, profile_names()):
        try:
            generator_of(profile.generator)
        except ValueError as error:
            typer.echo(f"skips profile {profile.name}: {' '.join(str(error).split())}", err=True)
        else:
            available.append(profile)
    return available


def _flows(run: Path) -> "dict[Flow[..., Any], dict[str, Any]]":
    """All flows, with the default values of their parameters other than the profile and the place of the run."""
    from spinmeround.flows.ablation import ablation_flow
    from spinmeround.flows.calibration import calibration_flow
    from spinmeround.flows.dataset import dataset_flow
    from spinmeround.flows.evaluation import evaluation_flow
    from spinmeround.flows.generation import generation_flow
    from spinmeround.flows.promotion import promotion_flow
    from spinmeround.flows.reconstruction import reconstruction_flow
    from spinmeround.flows.report import report_flow
    from spinmeround.flows.retraining import retraining_flow
    from spinmeround.flows.stages import stage_flow
    from spinmeround.flows.training import training_flow
    from spinmeround.flows.workflow import workflow_flow

    return {
        workflow_flow: {},
        dataset_flow: {},
        training_flow: {},
        evaluation_flow: {},
        ablation_flow: {},
        promotion_flow: {},
        retraining_flow: {},  # on which dataset, an event or a person says
        report_flow: {},
        stage_flow: {"stage": "sample"},
        generation_flow: {"params": {"given": {"kind": "nothing"}}, "folder": str(run / "generated")},
        reconstruction_flow: {
            "request": {"views": {"kind": "folder", "folder": str(run / "generated")}},
            "folder": str(run / "reconstructed"),
        },
        calibration_flow: {"params": {"keep": 0.95}},
    }
