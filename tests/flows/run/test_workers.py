"""Workers: they answer, they die without harm, and they never outlive their parent."""

import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from spinmeround.flows.run.workers import CallFailed, Worker, WorkerDied, WorkerPool, WorkerTimeout
from spinmeround.storage.errors import CorruptArtifact
from tests.flows.run import calls


@pytest.fixture(scope="module")
def worker():
    with closing(Worker()) as worker:
        yield worker


def test_answers_and_stays_warm(worker):
    """Calls are answered by one and the same process, which is not ours and has one thread for linear algebra."""
    assert worker.call(calls.double, 21) == 42
    assert worker.call(calls.process_id) == worker.call(calls.process_id) != os.getpid()
    assert worker.call(calls.threads) == "1"


def test_libraries_draw_no_bars(worker, tmp_path):
    """Nothing is said where a pipeline is saved and loaded, not even by libraries that were imported before."""
    assert worker.call(calls.bars_disabled) == "1"
    command = [sys.executable, "-m", "tests.flows.pipelines", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert (tmp_path / "model_index.json").is_file()
    assert (done.stdout, done.stderr) == ("", "")


def test_reports_arrive_in_order(worker):
    """What a call reports reaches the caller before its answer."""
    seen = []
    assert worker.call(calls.count, 3, report=seen.append) == "done"
    assert seen == [0, 1, 2]


def test_exceptions_keep_the_worker(worker):
    """An exception comes back with its name, words and traceback; our own in their own class; the worker lives on."""
    before = worker.call(calls.process_id)
    with pytest.raises(CallFailed, match="RuntimeError: no nose") as caught:
        worker.call(calls.fail, "no nose")
    assert "in fail" in caught.value.traceback
    with pytest.raises(CorruptArtifact, match="half a file"):
        worker.call(calls.fail_as_ours, "half a file")
    with pytest.raises(CallFailed, match="Unpicklable: no way back"):
        worker.call(calls.fail_unpicklably)
    assert worker.call(calls.process_id) == before


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (calls.die, int(calls.SIGKILL), r"worker died with signal 9 \(SIGKILL\)"),
        (calls.die, int(calls.SIGSEGV), r"worker died with signal 11 \(SIGSEGV\)"),
        (calls.leave, 3, "worker died with exit status 3"),
    ],
    ids=["killed", "segfault", "exit"],
)
def test_death_is_told_and_mended(worker, function, argument, reason):
    """A worker's death says how it came; the next call has a new one."""
    before = worker.call(calls.process_id)
    with pytest.raises(WorkerDied, match=reason):
        worker.call(function, argument)
    assert worker.call(calls.process_id) != before


def test_a_call_that_takes_too_long_is_ended(worker):
    """The process is killed at its time limit and replaced."""
    before = worker.call(calls.process_id)
    with pytest.raises(WorkerTimeout, match=r"timed out after 0\.3 s"):
        worker.call(calls.sleep, 60.0, timeout_s=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert worker.call(calls.double, 2) == 4


def test_the_time_limit_begins_again_with_each_report(worker):
    """A call that reports now and then may take longer than its limit in all; what was reported is kept."""
    worker.call(calls.process_id)
    seen = []
    with pytest.raises(WorkerTimeout, match=r"timed out after 2 s"):
        worker.call(calls.report_every, 0.8, 3, timeout_s=2.0, report=seen.append)
    assert seen == [0, 1, 2]


def test_pool_ends_calls_that_go_on():
    """Closing the pool frees the threads that wait for its workers, and no worker comes back."""
    pool, reasons = WorkerPool(1), []

    def wait_long():
        with pool.checkout() as worker:
            for _ in range(2):
                try:
                    worker.call(calls.sleep, 60.0)
                except WorkerDied as error:
                    reasons.append(str(error))

    thread = threading.Thread(target=wait_long)
    thread.start()
    time.sleep(1.0)
    pool.close()
    thread.join(10)
    assert not thread.is_alive()
    assert reasons[-1] == "worker died: the run has ended"


def test_workers_die_with_their_parent(tmp_path):
    """kill -9 of the parent leaves no orphan."""
    file = tmp_path / "worker"
    parent = calls.start_orphan_maker(file)
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    orphan = int(file.read_text())
    parent.kill()
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(orphan, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker outlived its parent")
