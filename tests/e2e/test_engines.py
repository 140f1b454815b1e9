"""Builds on a Dask cluster are those of the processes of this machine."""

import importlib.util
import socket
import sys
from pathlib import Path

import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.flows.run.engines import open_engine
from spinmeround.flows.run.workers import WorkerPool
from spinmeround.storage import extras
from spinmeround.storage.errors import ConfigError, EnvironmentUnavailable, MissingDependency
from tests.e2e.runs import build, counts

pytestmark = pytest.mark.filterwarnings("ignore:::distributed", "ignore::ResourceWarning")
needs_dask = pytest.mark.skipif(
    importlib.util.find_spec("prefect_dask") is None, reason="prefect-dask is not installed: the extra dask"
)


@needs_dask
@pytest.mark.slow
def test_a_cluster_builds_the_same_dataset(tiny, tiny_build, tmp_path: Path) -> None:
    """Two workers give the digest of the processes; counts, quarantine and the summary are those of the run."""
    execution = {"engine": "dask", "workers": 2, "shard_size": 1, "retries": 0, "max_quarantined_share": 0.5}
    found = build(tiny(execution=execution), tmp_path)
    assert found["dataset"]["digest"] == tiny_build.summary["dataset"]["digest"]
    assert counts(found) == counts(tiny_build.summary)
    assert found["stages"]["sample"]["seconds"] > 0
    failing = {"name": "tests.support.tiny:make", "options": {"failing": [2], "clipped": [1]}}
    other = build(tiny(execution=execution, generator=failing), tmp_path)
    assert (other["heads"]["quarantined"], other["heads"]["dropped"], other["heads"]["written"]) == (1, 1, 2)
    assert (counts(other)["sample"], counts(other)["render"]) == ((3, 0), (2, 0))


@needs_dask
def test_an_address_that_does_not_answer_is_named() -> None:
    """At once, with what to do."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        execution = load_profile("demo", ["execution.engine=dask", f"execution.address={address}"]).execution
        with (
            pytest.raises(EnvironmentUnavailable, match=rf"no Dask scheduler answers at {address}.*start it"),
            open_engine(execution, WorkerPool(1)),
        ):
            pass


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    for module in ("prefect_dask", "distributed"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(extras, "extra_of", lambda module: "dask")
    execution = load_profile("demo", ["execution.engine=dask"]).execution
    with (
        pytest.raises(MissingDependency, match=r"execution\.engine = dask needs .*spinmeround\[dask\]"),
        open_engine(execution, WorkerPool(1)),
    ):
        pass


def test_an_address_needs_a_cluster() -> None:
    with pytest.raises(ConfigError, match="expected engine to be dask with an address"):
        load_profile("demo", ["execution.address=tcp://127.0.0.1:8786"])
