"""An object store under faults: a server that is down, busy, slow, or loses its answers."""

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import StorageUnavailable
from spinmeround.storage.s3 import RetryPolicy
from tests.storage.artifacts.test_s3_backend import commit, key_of
from tests.support.s3 import Fault, Faults, S3Server, proxied

OpenStore = Callable[..., ArtifactStore]
QUICKER = RetryPolicy(attempts=4, first_s=0.02, most_s=0.1, request_s=0.3)
FILES = {f"{number}.bin": bytes([number]) * 20_000 for number in range(5)}


@pytest.fixture
def faults(s3: S3Server) -> Iterator[Faults]:
    with proxied(s3.port) as found:
        yield found


def busy(first: int, last: int, fault: Fault) -> Callable[[str, str, int], Fault]:
    """This fault for requests `first` to `last`, in the order of arrival."""
    return lambda method, path, number: fault if first <= number <= last else None


@pytest.mark.parametrize("fault", [500, 503, 429, "cut", "lost", 0.3], ids=str)
@pytest.mark.parametrize("first", [1, 4, 7], ids=["begin", "middle", "manifest"])
def test_temporary_faults_are_retried(
    open_s3: OpenStore, faults: Faults, s3: S3Server, s3_prefix: str, first: int, fault: Fault
) -> None:
    """Three faulty requests in a row, at any point, fail neither the commit nor the read.

    If the answer to a successful write is lost, the maker recognises its own manifest.
    """
    faults.plan = busy(first, first + 2, fault)
    made = open_s3(url=faults.url)
    with made.lock("render", key_of(1)):
        commit(made, 1, FILES)
    faults.requests.clear()
    found = open_s3("there", url=faults.url).verify("render", key_of(1)).path
    assert {name: (found / name).read_bytes() for name in FILES} == FILES
    assert len([name for name in s3.names(s3_prefix) if name.startswith("render/")]) == len(FILES) + 1
    assert [name for name in s3.names(s3_prefix) if name.startswith("locks/")] == []


@pytest.mark.parametrize("fault", [500, 503, "lost"], ids=str)
def test_a_permanent_fault_is_reported(open_s3: OpenStore, faults: Faults, s3: S3Server, fault: Fault) -> None:
    """After the last retry, the error names the server, the number of attempts and a remedy; no artifact exists."""
    store = open_s3(url=faults.url)
    faults.plan = busy(4, 10_000, fault)
    with pytest.raises(StorageUnavailable, match=rf"{faults.url} failed 7 times in .*AWS_ENDPOINT_URL.*run again"):
        commit(store, 1, FILES)
    faults.plan = busy(0, 0, None)
    assert not open_s3("other").has("render", key_of(1))
    commit(store, 1, FILES)
    assert open_s3("other").examine("render", key_of(1)) == []


def test_pauses_grow(open_s3: OpenStore, faults: Faults) -> None:
    """The pauses between attempts roughly double."""
    times: list[float] = []

    def plan(method: str, path: str, number: int) -> Fault:
        times.append(time.monotonic())
        return 503

    faults.plan = plan
    with pytest.raises(StorageUnavailable):
        open_s3(url=faults.url).has("render", key_of(1))
    pauses = [after - before for before, after in pairwise(times)]
    assert len(times) == 7
    assert pauses[5] > 2 * pauses[3] > 4 * pauses[1] * 0.6


def test_the_server_restarts(open_s3: OpenStore, s3: S3Server) -> None:
    """A restart of the server during an upload only costs time."""
    store = open_s3()

    def restart(out: Path) -> None:
        s3.stop()
        threading.Timer(0.4, s3.start).start()

    commit(store, 1, FILES, fill=restart)
    assert open_s3("there").examine("render", key_of(1)) == []


def test_the_server_stops(open_s3: OpenStore, s3: S3Server, s3_prefix: str, tmp_path: Path) -> None:
    """The error has a remedy and no temporary files are left; once the server runs again, so does the commit."""
    store = open_s3()
    try:
        with pytest.raises(StorageUnavailable, match="Check that the server runs"):
            commit(store, 1, FILES, fill=lambda out: s3.stop())
        assert list((tmp_path / "cache" / "tmp").iterdir()) == []
    finally:
        s3.start()
    assert not store.has("render", key_of(1))
    commit(store, 1, FILES)
    assert open_s3("there").examine("render", key_of(1)) == []


def test_a_slow_server_runs_into_the_time_limit(
    open_s3: OpenStore, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that exceeds the time limit is cancelled and sent again."""
    monkeypatch.setattr("tests.storage.conftest.QUICK", QUICKER)
    store = open_s3(url=faults.url)
    faults.plan = busy(1, 2, 1.0)
    began = time.monotonic()
    assert not store.has("render", key_of(1))
    assert time.monotonic() - began < 2.0
    assert len(faults.requests) == 3


def test_denied(open_s3: OpenStore, faults: Faults) -> None:
    """A request with refused credentials is not repeated."""
    faults.plan = busy(1, 100, 403)
    with pytest.raises(StorageUnavailable, match="denies access; check AWS_ACCESS_KEY_ID"):
        commit(open_s3(url=faults.url), 1, FILES)
    assert len(faults.requests) <= len(FILES)


MAKER = """
import sys
from pathlib import Path
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.artifacts.s3_backend import ObjectBackend
from spinmeround.storage.artifacts.s3_cache import ArtifactCache
from spinmeround.storage.s3 import ObjectClient, RetryPolicy
from tests.storage.artifacts.test_s3_backend import commit, key_of

root, cache, first = sys.argv[1:]
backend = ObjectBackend(ObjectClient(root, RetryPolicy()), ArtifactCache(Path(cache), 1 << 30), lease_s=1.0)
store = ArtifactStore(root, backend)
print("ready", flush=True)
for number in range(int(first), int(first) + 200):
    with store.lock("render", key_of(number)):
        commit(store, number, {f"{file}.bin": bytes([number % 256]) * 20_000 for file in range(3)})
"""


@pytest.mark.slow
def test_kill_9_leaves_complete_or_absent(open_s3: OpenStore, s3: S3Server, s3_prefix: str, tmp_path: Path) -> None:
    """After a maker is killed at a random moment, artifacts with a manifest are complete and the next can be made.

    Its uploads without a manifest are strays, its lock expires, and nothing else is left.
    """
    chance, store = random.Random(0), open_s3()
    for turn in range(12):
        command = [sys.executable, "-c", MAKER, str(store.root), str(tmp_path / "killed"), str(turn * 200)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as maker:
            assert maker.stdout is not None
            assert maker.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0.0, 0.4))
            maker.kill()
        made = [number for number in range(turn * 200, turn * 200 + 200) if store.has("render", key_of(number))]
        assert made == list(range(turn * 200, turn * 200 + len(made)))
        assert all(store.examine("render", key_of(number)) == [] for number in made)
        following = turn * 200 + len(made)
        with store.lock("render", key_of(following), timeout_s=20.0):
            commit(store, following, {"again.bin": b"again"})
        assert store.examine("render", key_of(following)) == []
    for stray in store.backend.strays():
        store.backend.remove_stray(stray)
    complete = {entry.key for entry in store.backend.entries()}
    assert {name.split("/")[2] for name in s3.names(s3_prefix) if name.startswith("render/")} == complete
    assert len(open_s3("killed").sweep()) <= 12
    assert list((tmp_path / "killed" / "tmp").iterdir()) == []
