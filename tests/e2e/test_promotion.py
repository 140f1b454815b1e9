"""From the event of a new dataset to a promoted model, on a real server with the services of `spinmeround serve`."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
import torch
from prefect import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.worker import EventsWorker
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.types.entrypoint import EntrypointType

from spinmeround.flows.generation import generation_flow
from spinmeround.flows.profile import Profile
from spinmeround.flows.promotion import Promotion
from spinmeround.flows.retraining import retraining_flow
from spinmeround.flows.run import pause
from spinmeround.flows.run.events import PUBLISHED
from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.workers import Worker, WorkerPool
from spinmeround.flows.server.automations import keep_automations
from spinmeround.flows.server.process import SETTINGS, ServerProcess
from spinmeround.models.diffusion.params import NoiseSchedule, UNetParams
from spinmeround.models.diffusion.unet import build_unet
from spinmeround.storage.artifacts import ArtifactStore, ModelRegistry
from spinmeround.storage.errors import DatasetError
from spinmeround.tasks.generation.params import GenerationParams, NothingInput
from tests.e2e.conftest import TINY, write_profile
from tests.e2e.pauses import meanwhile
from tests.e2e.runs import build, spinmeround
from tests.support.waiting import LIMIT_S, until

FIRST, WORSE, BETTER = -0.5, -4.0, 0.5
"""Latents that the three models predict everywhere. The embedded autoencoder decodes them to one colour, which is 7.5,
6.0 and 9.9 dB from the pictures of the tiny heads."""

UNET = {**TINY["train"]["unet"], "latent_channels": 8}


def drain_events() -> None:
    """Send all events, in a thread: where a loop runs, as a browser of another test leaves one, it is a coroutine."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(EventsWorker.drain_all, timeout=LIMIT_S).result()


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[str]:
    """API of a server with all services, which no other test uses: its automations would start runs of theirs."""
    home = tmp_path / "prefect"
    home.mkdir()
    drain_events()  # the worker of this process sends to one server
    with patch.dict(os.environ, {**SETTINGS, "PREFECT_HOME": str(home)}):
        server = ServerProcess(home, pages=tmp_path)
        try:
            server.wait()
            settings = {PREFECT_API_URL: server.api, PREFECT_CLIENT_MAX_RETRIES: 10}
            with temporary_settings(settings), patch.dict(os.environ, {"PREFECT_API_URL": server.api}):
                yield server.api
                drain_events()
        finally:
            server.close()


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One worker process for all trainings and evaluations, which then import the networks once."""
    worker = Worker(forks=True)

    @contextmanager
    def dedicated(pool: WorkerPool, **options: Any) -> Iterator[Worker]:
        yield worker

    monkeypatch.setattr(WorkerPool, "dedicated", dedicated)
    yield
    worker.close()


def write_model(folder: Path, latent: float) -> None:
    """A UNet that predicts this value for all latents, whatever it is given."""
    unet = build_unet(UNetParams.model_validate(UNET))
    torch.nn.init.zeros_(unet.unet.conv_out.weight)
    torch.nn.init.constant_(unet.unet.conv_out.bias, -latent)  # at the first noise level, c_out is -1
    unet.save_pretrained(folder)


def deploy(profile: Profile, place: Place) -> None:
    """Register the deployment of the retraining flow, as `spinmeround serve` does."""
    deployment: Any = retraining_flow.to_deployment(
        name=profile.name,
        parameters={"profile": profile.model_dump(mode="json"), "place": place.model_dump()},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    deployment.apply()


def started(but: list[FlowRun]) -> FlowRun:
    """The run that the automation starts next, which nobody executes yet."""

    def found() -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs()
        return [run for run in runs if run.deployment_id is not None and run.id not in {each.id for each in but}]

    (run,) = until(found)
    assert run.state is not None
    assert run.state.type == StateType.SCHEDULED
    return run


def execute(run: FlowRun) -> Promotion:
    """Execute a scheduled run with its own parameters, as a runner does."""
    found: Promotion = run_flow(retraining_flow, flow_run=run, parameters=run.parameters)
    return found


def shown(api: str, key: str) -> str:
    """The newest artifact of this key, as the UI shows it."""
    return str(httpx.get(f"{api}/artifacts/{key}/latest").raise_for_status().json()["data"])


def events(api: str) -> list[dict[str, Any]]:
    """All events of new datasets, as the server has them, oldest first."""
    wanted = {"filter": {"event": {"name": [PUBLISHED]}, "order": "ASC"}}
    found: list[dict[str, Any]] = httpx.post(f"{api}/events/filter", json=wanted).raise_for_status().json()["events"]
    return found


def test_event_retraining_refusal_approval_and_promotion(
    serving: str, one_worker: None, tiny: Callable[..., Profile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three datasets are published; each starts a retraining with its digest. The first model is promoted when a
    command approves of it, a worse one is refused with a reason, and a better one is promoted when a person submits the
    form. `production` then generates what the better model does. A dataset that is published again is no event."""
    monkeypatch.setattr(pause, "POLL_S", 0.4)
    unet, runs = tmp_path / "unet", tmp_path / "runs"
    profile = _profile(tiny, unet)
    place = Place(runs=str(runs))
    registry = ModelRegistry(ArtifactStore(runs / "tiny" / "store"))
    deploy(profile, place)
    with get_client(sync_client=True) as client:
        assert keep_automations(client) == {"retraining tiny": "created"}

    def publish(number: int, latent: float) -> dict[str, str]:
        """Publish a dataset of another digest, to be trained on from a UNet that predicts this latent."""
        write_model(unet, latent)
        licensed = profile.model_copy(update={"publish": profile.publish.model_copy(update={"licence": str(number)})})
        return dict(build(licensed, runs)["dataset"])

    first = publish(1, FIRST)
    assert publish(1, FIRST) == first
    done = [started(but=[])]
    assert (done[0].parameters["dataset"], done[0].parameters["digest"]) == (first["path"], first["digest"])
    file = write_profile(profile, tmp_path / "tiny.toml")
    place_options = ("--profile", str(file), "--runs", str(runs))

    def approve(*_: Any) -> None:
        command = spinmeround(
            "models", "approve", "heads@1", "-m", "looked at it", *place_options, environment=dict(os.environ)
        )
        output, problems = command.communicate(timeout=LIMIT_S)
        assert (command.returncode, "heads@1 as production" in output) == (0, True), problems

    with meanwhile(approve):
        found = execute(done[0])
    assert (found.version, found.before, found.promoted) == (1, None, True)
    assert "(looked at it)" in registry.get("heads").aliases["production"][0].reason
    version = registry.get("heads").version(1)
    assert (version.dataset, version.evaluated_on) == (first["digest"], first["digest"])

    publish(2, WORSE)
    done.append(started(but=done))
    found = execute(done[1])
    assert (found.version, found.before, found.promoted) == (2, 1, False)
    assert "the new model is not better" in found.reason
    assert "heads@2: not promoted" in shown(serving, "promotion")
    assert found.reason[1:] in shown(serving, "promotion")

    third = publish(3, BETTER)
    done.append(started(but=done))

    def agree(run: FlowRun, submit: Callable[[dict[str, Any]], Any]) -> None:
        assert run.flow_id != done[2].flow_id
        submit({"approve": True, "comment": "sharper"})

    with meanwhile(agree):
        found = execute(done[2])
    assert (found.version, found.before, found.promoted) == (3, 1, True)
    assert "heads@3: promoted" in shown(serving, "promotion")
    model = registry.get("heads")
    assert [move.version for move in model.aliases["production"]] == [1, 3]
    scores = [version.metrics["psnr"] or 0.0 for version in model.versions]
    assert scores[1] < scores[0] < scores[2] - profile.promote.margin
    assert [answer.comment for answer in model.answers if answer.version == 3] == ["sharper"]
    assert model.answer(3, "production") is None  # the alias has moved since

    views = GenerationParams(given=NothingInput(), schedule=NoiseSchedule(steps=1), batch=1)
    folders = {"production": tmp_path / "promoted", str(registry.open(model.versions[2])): tmp_path / "named"}
    for name, folder in folders.items():
        generation_flow(profile, views, str(folder), place, name)
    pictures = [(folder / "view-00.png").read_bytes() for folder in folders.values()]
    assert pictures[0] == pictures[1]

    with pytest.raises(DatasetError, match=f"expected the dataset {first['digest'][:12]} that was published, found"):
        retraining_flow(profile, third["path"], first["digest"], place)
    drain_events()
    sent = until(lambda: len(found := events(serving)) >= len(done) and found)
    assert [event["payload"]["digest"] for event in sent] == [run.parameters["digest"] for run in done]


def _profile(tiny: Callable[..., Profile], unet: Path) -> Profile:
    """One step that changes nothing, from the UNet in a folder, in latents of the embedded autoencoder."""
    steps = {"adapt": 0, "single_view": 0, "multi_view": 1}
    phases = {name: {**TINY["train"][name], "steps": number} for name, number in steps.items()}
    initial = {"initial": {"unet": str(unet)}, "learning_rate": 1e-12}
    return tiny(
        encode={"autoencoder": "embedded"},
        train={**TINY["train"], **phases, **initial, "unet": UNET},
        promote={
            "model": "heads",
            "margin": 0.5,
            "approval": True,
            "approval_timeout_s": int(LIMIT_S),
        },
    )
