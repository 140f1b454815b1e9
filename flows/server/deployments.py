"""`spinmeround serve`: a Prefect server with its UI, and each flow and stage as a deployment of each profile.

While the server runs, commands on the same folder of runs use it instead of starting their own, so that the UI shows
their runs live.
"""

import os
import signal
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from spinmeround.flows.run.folder import Place
from spinmeround.flows.server.environment import bypass_proxies, check_environment
from spinmeround.flows.server.forms import flow_form
from spinmeround.flows.server.offers import offers
from spinmeround.flows.server.process import (
    LOOPBACK,
    ServerProcess,
    announce,
    api_of,
    authenticate,
    configure,
    link_pages,
    running_server,
    withdraw,
)
from spinmeround.flows.server.registration import keep_changes, versioned
from spinmeround.flows.server.settings import import_prefect
from spinmeround.storage.errors import ConfigError, SpinMeRoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefect.deployments.runner import RunnerDeployment

    from spinmeround.flows.profile import Profile


_EVERYWHERE = ("0.0.0.0", "::")


def serve_all(runs: Path, port: int, profiles: "Sequence[str]" = (), host: str = LOOPBACK) -> None:
    """Serve until interrupted or terminated; `profiles` are names and files of further profiles than the shipped ones.

    Raises ConfigError if the port is taken, another server serves these runs, or other machines could start runs
    without a password.
    """
    _require_password(host)
    bypass_proxies(*([] if host in _EVERYWHERE else [host]))
    home = configure(runs, quiet=False)
    if found := running_server(home):
        raise ConfigError(f"--runs {runs}: another server serves these runs at {found.removesuffix('/api')}")
    # limits the task threads of flows started in the UI; the command line passes its own limit
    os.environ.setdefault("PREFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", str(os.cpu_count() or 1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until Prefect's runner installs its own handler
    check_environment(None)
    authenticate()
    os.environ["PREFECT_API_URL"] = api_of(port, host)  # Prefect reads it once, when it is imported
    import_prefect()
    with ExitStack() as cleanup:
        server = ServerProcess(home, port=port, host=host, pages=runs.absolute(), on_lost=_end)
        cleanup.callback(server.close)
        server.wait()
        cleanup.callback(withdraw, home)
        announce(home, server.api, runs.absolute())
        link_pages(runs.absolute())  # for the runs that are started in the UI
        typer.echo(f"UI: {server.api.removesuffix('/api')}   (runs in {runs.absolute()}, stop with Ctrl-C)")
        _serve_deployments(runs, profiles)


def _require_password(host: str) -> None:
    """Raise ConfigError where other machines would reach a server without a password."""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        raise ConfigError(
            f"--host {host}: whoever reaches this address can start runs; set PREFECT_SERVER_API_AUTH_STRING to "
            "NAME:PASSWORD, or use --host 127.0.0.1 with a tunnel"
        )


def _end(error: SpinMeRoundError) -> None:
    """End this process, whose server can't be started any more."""
    typer.echo(f"the server has ended: {error}", err=True)
    os.kill(os.getpid(), signal.SIGTERM)


def _serve_deployments(runs: Path, profiles: "Sequence[str]") -> None:
    from prefect import serve
    from prefect.client.orchestration import get_client

    found = deployments(runs, profiles)
    with get_client(sync_client=True) as client:
        keep_changes(found, client)
    # schedules are people's: they stay active, and runs that are due in the meantime are late
    serve(*found, print_starting_message=False, pause_on_shutdown=False)


def deployments(runs: Path, profiles: "Sequence[str]" = ()) -> "list[RunnerDeployment]":
    """Every flow, and every stage, for each profile whose generator is available here, named `profile-flow`.

    `profiles` are names and files of further profiles than those that ship with the package.
    """
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    from spinmeround.flows.comparison import comparison_flow

    found = []
    for base, profile in _available_profiles(profiles):
        place = Place(runs=str(runs.absolute())).model_dump()
        for offer in offers(runs.absolute() / profile.name):
            parameters = {"profile": {"name": profile.name, "extends": base}, "place": place, **offer.parameters}
            made = offer.flow.to_deployment(
                name=f"{profile.name}-{offer.name}",
                description=offer.description,
                parameters=parameters,
                version=versioned(parameters),
                entrypoint_type=EntrypointType.MODULE_PATH,
                tags=[profile.name, *offer.tags],
            )
            deployment = cast(RunnerDeployment, made)
            deployment._parameter_openapi_schema = flow_form(offer.flow, profile, base, offer.fields, offer.fixed)
            found.append(deployment)
    runs_of_any_profile = comparison_flow.to_deployment(
        name="comparison", version=versioned({}), entrypoint_type=EntrypointType.MODULE_PATH
    )
    return [*found, cast(RunnerDeployment, runs_of_any_profile)]


def _available_profiles(profiles: "Sequence[str]") -> "Iterator[tuple[str, Profile]]":
    """Profiles, each with the name or the file to load it by. Raises ConfigError for two of the same name."""
    from spinmeround.flows.profile import load_profile, profile_names
    from spinmeround.tasks.heads.generator import generator_of

    shipped, known = profile_names(), dict[str, str]()
    for name in dict.fromkeys([*shipped, *profiles]):
        profile = load_profile(name)
        if other := known.get(profile.name):
            raise ConfigError(f"--profile {name}: expected another name than {profile.name!r}, which {other} has")
        known[profile.name] = name
        try:
            generator_of(profile.generator)
        except ValueError as error:
            typer.echo(f"skips profile {name}: {' '.join(str(error).split())}", err=True)
        else:
            yield (name if name in shipped else str(Path(name).absolute())), profile
