"""Builds under adverse conditions: two at once, a clock that jumps, files of a newer version, inputs that vanish."""

import json
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, join_session
from spinmeround.flows.run.shards import ShardCount, run_shard
from spinmeround.storage.dataset import verify
from spinmeround.storage.errors import ConfigError, DatasetError, DeviceUnavailable, MissingDependency, StoreError
from spinmeround.tasks.heads.registry import STAGES_BY_NAME
from spinmeround.tasks.stage import Head
from tests.e2e.runs import artifacts, build, spinmeround
from tests.e2e.test_killed import GENERATOR, HEADS, leftovers
from tests.flows.run import calls
from tests.support.waiting import LIMIT_S, until

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(clock, now);
  if (clock == CLOCK_REALTIME && access(getenv("JUMPED"), F_OK) == 0) now->tv_sec -= 86400;
  return status;
}
"""


@pytest.fixture
def session(tiny, tmp_path) -> Iterator[Session]:
    """A run whose stages the test calls one by one, without Prefect."""
    options = {"failing": [3], "dying": [6]}
    with join_session(
        tiny(generator={"name": "tests.support.tiny:make", "options": options}, plan={"heads": 10}),
        Place(runs=str(tmp_path)),
    ) as session:
        yield session


def run(session: Session, stage: str, heads: Sequence[Head] | None = None) -> ShardCount:
    """Run a stage for these heads, by default for all, as one shard."""
    progress().stage(stage, len(session.heads))
    return run_shard(session, STAGES_BY_NAME[stage], session.heads if heads is None else heads)


def test_heads_of_a_batch_fail_alone(session):
    """A head that raises and one that kills its worker are quarantined for these reasons; the others are made."""
    count = run(session, "sample")
    assert (count.made, count.skipped) == (8, 0)
    reasons = {failure.subject: (failure.reason, failure.attempts) for failure in count.quarantined}
    assert reasons == {
        "tiny-000003": ("RuntimeError: seed 3 has no nose", 2),
        "tiny-000006": ("worker died with signal 9 (SIGKILL)", 2),
    }
    again = run(session, "sample")
    assert (again.made, again.reused, again.skipped, again.quarantined) == (0, 8, 2, ())


def test_a_machine_without_memory_ends_the_build(tiny, tmp_path):
    """No head is quarantined for it, and the same run continues when there is memory again."""
    for exhausting, made in (([1], None), ([], 4)):
        generator = {"name": "tests.support.tiny:make", "options": {"exhausting": exhausting}}
        with join_session(tiny(generator=generator), Place(runs=str(tmp_path))) as session:
            if made is None:
                with pytest.raises(DeviceUnavailable, match=r"^out of memory \(Unable to allocate"):
                    run(session, "sample")
            else:
                assert run(session, "sample").made == made
            assert session.quarantine.failures() == ()


def test_a_hanging_head_is_quarantined(tiny, tmp_path):
    """A head that exceeds the time limit of the stage loses its worker, and that is its reason."""
    generator = {"name": "tests.support.tiny:make", "options": {"hanging": [1]}}
    execution = {"timeout_s": 10.0, "retries": 0, "max_quarantined_share": 0.5, "workers": 1}
    with join_session(tiny(generator=generator, execution=execution), Place(runs=str(tmp_path))) as session:
        with session.pool.checkout() as worker:  # imports take longer than the limit on a busy machine
            worker.call(calls.import_modules, "spinmeround.flows.run.shards", "tests.support.tiny")
        count = run(session, "sample", session.heads[:2])
        assert count.made == 1
        assert [failure.reason for failure in count.quarantined] == ["timed out after 10 s"]


def test_a_missing_extra_stops_the_run(tiny, tmp_path):
    """A library that is not installed fails for every head: the run names the extra and quarantines none."""
    generator = {"name": "tests.support.tiny:make", "options": {"needs": "diffusers"}}
    with join_session(tiny(generator=generator), Place(runs=str(tmp_path))) as session:
        with pytest.raises(MissingDependency, match=r"stage sample needs 'diffusers'.*spinmeround\[train\]"):
            run(session, "sample", session.heads[:2])
        assert session.quarantine.failures() == ()


def test_a_vanished_input_is_remade(session):
    """An input that is gone when a stage needs it, even several stages back, is not a failure of the head."""
    heads = session.heads[:3]
    for stage in ("sample", "score"):
        run(session, stage, heads)
    lost = session.keys[heads[1].id]
    for stage in ("sample", "score"):
        shutil.rmtree(session.store.path(stage, lost[stage]))
    assert run(session, "screen", heads).made == 3
    assert all(session.has(stage, heads[1]) for stage in ("sample", "score", "screen"))
    assert session.quarantine.failures() == ()


def test_weights_that_change_during_a_run_stop_it(session):
    """No artifact gets a key of other weights, and no head is quarantined."""
    session.stages["sample"] = replace(session.stages["sample"], weights="other weights")
    session.reload_decisions()
    with pytest.raises(ConfigError, match="sample: expected the weights and generator that the run began with"):
        run(session, "sample")
    assert session.quarantine.failures() == ()
    assert artifacts(session.store.root) == []


def test_builds_on_one_store_divide_the_heads(tiny, tmp_path):
    """A build does not wait for a head that another one makes: both make some, and none is made twice."""
    generator = {"name": "tests.support.tiny:make", "options": {"delay_s": 0.5}}
    ready, found = threading.Barrier(2), {}

    def build_apart(name: str) -> None:
        place = Place(runs=str(tmp_path / name), store=str(tmp_path / "store"))
        with join_session(tiny(generator=generator, plan={"heads": 20}), place) as session:
            with session.pool.checkout() as worker:
                worker.call(calls.import_modules, "spinmeround.flows.run.shards", "tests.support.tiny")
            ready.wait(LIMIT_S)
            found[name] = run(session, "sample")

    threads = [threading.Thread(target=build_apart, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.made + each.reused for each in found.values()] == [20, 20]
    assert sum(each.made for each in found.values()) == 20
    assert min(each.made for each in found.values()) >= 3


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "apart", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one folder", "two folders, one store"]
)
def test_two_builds_at_once(tiny, profile_file, tmp_path, environment, apart):
    """Both publish the same complete dataset, and each artifact is made once, by one of them."""
    profile = tiny(generator=GENERATOR, plan={"heads": HEADS})
    store, runs = tmp_path / "store", [tmp_path / "a", tmp_path / ("b" if apart else "a")]
    command = ["build", "--profile", str(profile_file), "--runs", str(runs[1]), "--store", str(store)]
    other = spinmeround(*command, environment=environment)
    until(lambda: artifacts(store) or other.poll() is not None)
    build(profile, runs[0], store=str(store))
    _, errors = other.communicate()
    assert other.returncode == 0, errors
    found = [json.loads(path.read_text()) for run in set(runs) for path in (run / "tiny" / "summaries").iterdir()]
    assert len(found) == 2
    assert len({each["dataset"]["digest"] for each in found}) == 1
    made: Counter[str] = Counter()
    for each in found:
        made.update({name: stage["made"] for name, stage in each["stages"].items()})
        assert (each["heads"]["written"], each["heads"]["quarantined"]) == (HEADS, 0)
        assert verify(Path(each["dataset"]["path"])) == []
    publish = made.pop("publish")
    assert publish == (2 if apart else 1)
    assert set(made.values()) == {HEADS}
    assert [path for run in set(runs) for path in leftovers(run / "tiny")] == []
    assert sorted(path.name for path in store.iterdir() if not any(path.iterdir())) == ["locks", "tmp"]


@pytest.mark.slow
@pytest.mark.usefixtures("server")
def test_a_clock_that_jumps_back(tiny, profile_file, tmp_path, environment):
    """A clock that jumps back a day during a build changes nothing, and a later build reuses its artifacts."""
    (tmp_path / "clock.c").write_text(CLOCK)
    shim, jumped = tmp_path / "clock.so", tmp_path / "jumped"
    compile_ = ["cc", "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "clock.c"), "-ldl"]
    if not shutil.which("cc") or subprocess.run(compile_, capture_output=True).returncode:
        pytest.skip("no C compiler to build the clock library with")
    profile = tiny(generator=GENERATOR, plan={"heads": HEADS})
    command = ["build", "--profile", str(profile_file), "--runs", str(tmp_path / "runs")]
    process = spinmeround(*command, environment={**environment, "LD_PRELOAD": str(shim), "JUMPED": str(jumped)})
    store = tmp_path / "runs" / "tiny" / "store"
    until(lambda: len(artifacts(store)) >= 20 or process.poll() is not None, interval_s=0.02)
    jumped.touch()
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    days = {json.loads((path / "manifest.json").read_text())["created"][:10] for path in artifacts(store)}
    assert len(days) == 2, "the clock did not jump"
    again = build(profile, tmp_path / "runs")
    assert {stage["made"] for stage in again["stages"].values()} == {0}
    assert again["dataset"]["digest"] in output


def files(run: Path) -> set[Path]:
    """The files of a run, without the summary that each run has, a failed one, too."""
    return {path for path in run.rglob("*") if path.is_file() and "summaries" not in path.parts}


@pytest.mark.usefixtures("server")
def test_files_of_a_newer_version_are_rejected(tiny, built):
    """An artifact, a dataset and a run folder of a newer version are named in the error, and no file changes."""
    profile, folder = tiny(), built / "tiny"
    build(profile, built)  # registers the copy in the store
    (dataset,) = (folder / "datasets").glob("*.zarr")
    artifact = next(each for each in artifacts(folder / "store") if each.parents[1].name == "mesh")
    cases = [
        (artifact / "manifest.json", StoreError, f"mesh/{artifact.name[:12]}: its manifest has schema version 9"),
        (dataset / "manifest.json", DatasetError, "manifest.json: schema version 9"),
        (folder / "run.json", ConfigError, "run.json: schema version 9"),
    ]
    for file, error, message in cases:
        good = file.read_bytes()
        file.write_text(json.dumps({**json.loads(good), "schema_version": 9}))
        before = files(folder)
        with pytest.raises(error, match=message) as caught:
            build(profile, built)
        assert "use a newer version" in str(caught.value)
        assert files(folder) == before
        file.write_bytes(good)
    found = build(profile, built)
    assert found["dataset"]["path"] == str(dataset)
    assert {stage["made"] for stage in found["stages"].values()} == {0}
