"""The networks from outside are checked once a run, before anything else happens in it."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spinmeround.flows import training, workflow
from spinmeround.flows.profile import load_profile
from spinmeround.storage.errors import ConfigError

CASES = Path(__file__).parents[1] / "cases"


class Pool:
    """Runs calls in this process, and counts its workers."""

    workers = 0

    @contextmanager
    def dedicated(self, *, threads: int) -> Any:
        self.workers += 1
        yield SimpleNamespace(call=lambda function, *arguments: function(*arguments))


def session(profile: Any) -> SimpleNamespace:
    return SimpleNamespace(profile=profile, pool=Pool(), networks_checked=False)


def nan_profile() -> Any:
    values = (f"encode.autoencoder={CASES / 'nan_vae'}", "train.unet.latent_channels=4", "train.unet.sample_size=16")
    return load_profile("demo", list(values))


def test_embedded_networks_need_no_worker() -> None:
    """The demo's networks ship with the package."""
    run = session(load_profile("demo"))
    training.check_networks(run)
    assert run.pool.workers == 0


@pytest.mark.parametrize("flow", [training.training_flow, workflow.workflow_flow], ids=["training", "workflow"])
def test_a_defective_network_ends_the_run_before_anything_is_computed(
    flow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the dataset is looked for nor a stage begun."""
    profile = nan_profile()
    run = session(profile)

    @contextmanager
    def joined(*_: Any) -> Any:
        yield run

    def begun(*_: Any) -> None:
        raise AssertionError("the run has begun")

    for module in (training, workflow):
        monkeypatch.setattr(module, "join_session", joined)
    monkeypatch.setattr(training, "dataset_of", begun)
    monkeypatch.setattr(workflow, "sized", begun)
    with pytest.raises(ConfigError, match=r"encode\.autoencoder: .*tensor encoder\.conv_in\.weight"):
        flow.fn(profile)


def test_the_check_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training inside a workflow does not repeat it."""
    run = session(nan_profile())
    monkeypatch.setattr(training, "_check_external", lambda *arguments: None)
    training.check_networks(run)
    training.check_networks(run)
    assert run.pool.workers == 1
