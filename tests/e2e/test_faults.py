"""What a build does in foul weather: two at once, a clock that jumps, a newer version's folders, inputs that vanish."""

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from spinmeround.flows.run.folder import Place
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session, join_session
from spinmeround.flows.run.shards import STAGES, ShardCount, run_shard
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import verify
from spinmeround.storage.errors import ConfigError, DatasetError, StoreError
from spinmeround.tasks.stage import Head
from tests.e2e.runs import artifacts, build, spinmeround, summary
from tests.e2e.test_killed import GENERATOR, HEADS, leftovers

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
    """A run whose stages are called one by one, without Prefect."""
    options = {"failing": [3], "dying": [6]}
    with join_session(
        tiny(generator={"name": "tests.support.tiny:make", "options": options}, plan={"heads": 10}),
        Place(runs=str(tmp_path)),
    ) as session:
        yield session


def run(session: Session, stage: str, heads: Sequence[Head] | None = None) -> ShardCount:
    """A stage for these heads, or all, as one shard."""
    progress().stage(stage, len(session.heads))
    return run_shard(session, STAGES[stage], session.heads if heads is None else heads)


def test_heads_of_a_batch_fail_alone(session):
    """One that raises and one that kills its worker are quarantined, each for its own reason; the others are made."""
    count = run(session, "sample")
    assert (count.made, count.skipped) == (8, 0)
    reasons = {failure.subject: (failure.reason, failure.attempts) for failure in count.quarantined}
    assert reasons == {
        "tiny-000003": ("RuntimeError: seed 3 has no nose", 2),
        "tiny-000006": ("worker died with signal 9 (SIGKILL)", 2),
    }
    again = run(session, "sample")
    assert (again.made, again.reused, again.skipped, again.quarantined) == (0, 8, 2, ())


def test_an_input_that_vanished_is_made_again(session):
    """An input that is gone when the stage comes to it, be it several stages back, is no failure of the head."""
    heads = session.heads[:3]
    for stage in ("sample", "score"):
        run(session, stage, heads)
    lost = session.keys[heads[1].id]
    for stage in ("sample", "score"):
        shutil.rmtree(session.store.path(stage, lost[stage]))
    assert run(session, "screen", heads).made == 3
    assert all(session.has(stage, heads[1]) for stage in ("sample", "score", "screen"))
    assert session.quarantine.failures() == ()


def test_weights_that_change_meanwhile_end_the_run(session):
    """Nothing is made under a key that it would not deserve, and no head is blamed."""
    session.stages["sample"] = replace(session.stages["sample"], weights="those of an hour ago")
    session.reload_decisions()
    with pytest.raises(ConfigError, match="sample: expected the weights and generator with which the run began"):
        run(session, "sample")
    assert session.quarantine.failures() == ()
    assert artifacts(session.store.root) == []


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    "apart", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["one folder", "two folders, one store"]
)
def test_two_builds_at_once(tiny, profile_file, tmp_path, environment, apart):
    """Both end with the same whole dataset, and every artifact is made once, by one of them."""
    profile = tiny(generator=GENERATOR, plan={"heads": HEADS})
    store, runs = tmp_path / "store", [tmp_path / "a", tmp_path / ("b" if apart else "a")]
    command = ["build", "--profile", str(profile_file), "--runs", str(runs[1]), "--store", str(store)]
    other = spinmeround(*command, environment=environment)
    while not artifacts(store) and other.poll() is None:
        time.sleep(0.05)
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
    """A build in whose middle it is suddenly yesterday ends as any other, and what it made is found tomorrow."""
    (tmp_path / "clock.c").write_text(CLOCK)
    shim, jumped = tmp_path / "clock.so", tmp_path / "jumped"
    compile_ = ["cc", "-shared", "-fPIC", "-o", str(shim), str(tmp_path / "clock.c"), "-ldl"]
    if not shutil.which("cc") or subprocess.run(compile_, capture_output=True).returncode:
        pytest.skip("no C compiler to make a clock with")
    profile = tiny(generator=GENERATOR, plan={"heads": HEADS})
    command = ["build", "--profile", str(profile_file), "--runs", str(tmp_path / "runs")]
    process = spinmeround(*command, environment={**environment, "LD_PRELOAD": str(shim), "JUMPED": str(jumped)})
    store = tmp_path / "runs" / "tiny" / "store"
    while len(artifacts(store)) < 20 and process.poll() is None:
        time.sleep(0.02)
    jumped.touch()
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    days = {json.loads((path / "manifest.json").read_text())["created"][:10] for path in artifacts(store)}
    assert len(days) == 2, "the clock did not jump"
    again = build(profile, tmp_path / "runs")
    assert {stage["made"] for stage in again["stages"].values()} == {0}
    assert again["dataset"]["digest"] in output


@pytest.mark.usefixtures("server")
def test_a_newer_version_is_refused_and_left(tiny, tmp_path):
    """Artifact, dataset and run folder of a newer version: each is named, and every file stays where it is."""
    profile = tiny(plan={"heads": 2})
    dataset = Path(build(profile, tmp_path)["dataset"]["path"])
    store = ArtifactStore(tmp_path / "tiny" / "store")
    artifact = next(folder for folder in artifacts(store.root) if folder.parents[1].name == "mesh")
    cases = [
        (artifact / "manifest.json", StoreError, f"mesh/{artifact.name[:12]}: its manifest has schema version 9"),
        (dataset / "manifest.json", DatasetError, "manifest.json: schema version 9"),
        (tmp_path / "tiny" / "run.json", ConfigError, "run.json: schema version 9"),
    ]
    for file, error, message in cases:
        good = file.read_bytes()
        file.write_text(json.dumps({**json.loads(good), "schema_version": 9}))
        before = {path for path in (tmp_path / "tiny").rglob("*") if path.is_file()}
        with pytest.raises(error, match=message) as caught:
            build(profile, tmp_path)
        assert "use a newer version" in str(caught.value)
        assert {path for path in (tmp_path / "tiny").rglob("*") if path.is_file()} == before
        file.write_bytes(good)
    assert summary(tmp_path / "tiny")["dataset"]["path"] == str(dataset)
    assert {stage["made"] for stage in build(profile, tmp_path)["stages"].values()} == {0}
