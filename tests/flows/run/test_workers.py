"""Workers answer calls, are replaced when they die, and never outlive their parent."""

import logging
import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from spinmeround.flows.run.workers import CallFailed, Worker, WorkerDied, WorkerPool, WorkerTimeout
from spinmeround.storage.errors import CorruptArtifact, DeviceUnavailable
from tests.flows.run import calls
from tests.support.waiting import LIMIT_S, until


@pytest.fixture(scope="module")
def worker():
    with closing(Worker()) as worker:
        yield worker


def test_calls_share_one_process(worker):
    """One process, not this one, answers all calls; it has one thread for linear algebra."""
    assert worker.call(calls.double, 21) == 42
    assert worker.call(calls.process_id) == worker.call(calls.process_id) != os.getpid()
    assert worker.call(calls.threads) == "1"


def test_log_lines_and_warnings_come_to_the_caller(worker, caplog):
    """Those of this package from INFO, of others from WARNING, with tracebacks, in order; the answer is as without."""
    with caplog.at_level(logging.INFO):
        assert worker.call(calls.log_lines) is None
    lines = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert lines[:2] == [
        ("spinmeround.test", "INFO", "spinmeround.test: one line"),
        ("library", "WARNING", "library: a 2-nd"),
    ]
    assert lines[2][:2] == ("library", "ERROR")
    assert lines[2][2].startswith("library: failed\nTraceback")
    assert lines[2][2].endswith("RuntimeError: no nose")
    assert lines[3][:2] == ("py.warnings", "WARNING")
    assert "UserWarning: old weights" in lines[3][2]
    assert len(lines) == 4


def test_a_call_that_hangs_and_logs_is_stopped():
    """Lines of the log are no progress."""
    with closing(Worker()) as worker:
        worker.call(calls.double, 1)
        with pytest.raises(WorkerTimeout, match="timed out after 1 s"):
            worker.call(calls.hang_and_log, timeout_s=1.0)


def test_forked_children_log_beside_the_pipe(caplog):
    """Their lines do not garble what the worker sends."""
    with closing(Worker(forks=True)) as worker, caplog.at_level(logging.WARNING):
        assert worker.call(calls.log_in_forked_children) == [0, 0, 0, 0]
    assert [record.getMessage() for record in caplog.records] == ["library: of the parent"]


def test_libraries_print_nothing(worker, tmp_path):
    """Saving and loading a pipeline prints nothing, even by libraries that were imported earlier."""
    assert worker.call(calls.bars_disabled) == "1"
    command = [sys.executable, "-m", "tests.flows.pipelines", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert (tmp_path / "model_index.json").is_file()
    assert (done.stdout, done.stderr) == ("", "")


def test_bitsandbytes_prints_nothing(tmp_path):
    """A package in its place warns when diffusers imports it, as version 0.50 does where a kernel is missing."""
    package = tmp_path / "packages" / "bitsandbytes"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import logging, pathlib\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
        "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('Failed to load CPU gemm_4bit_forward')\n"
    )
    information = package.with_name("bitsandbytes-0.50.2.dist-info")
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.50.2\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.flows.pipelines", str(tmp_path)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(package.parent)])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (package / "imported").is_file()
    assert (done.stdout, done.stderr) == ("", "")


def test_reports_arrive_in_order(worker):
    """The reports of a call reach the caller before its answer."""
    seen = []
    assert worker.call(calls.count, 3, report=seen.append) == "done"
    assert seen == [0, 1, 2]


def test_exceptions_keep_the_worker(worker):
    """An exception returns with name, message and traceback, a SpinMeRoundError as itself; the worker stays alive."""
    before = worker.call(calls.process_id)
    with pytest.raises(CallFailed, match="RuntimeError: no nose") as caught:
        worker.call(calls.fail, "no nose")
    assert "in fail" in caught.value.traceback
    with pytest.raises(CorruptArtifact, match="half a file"):
        worker.call(calls.fail_with_project_error, "half a file")
    with pytest.raises(CallFailed, match="Unpicklable: not picklable"):
        worker.call(calls.fail_unpicklably)
    assert worker.call(calls.process_id) == before


@pytest.mark.parametrize("function", [calls.exhaust_memory, calls.load_broken_network], ids=["memory", "GPU"])
def test_a_failing_device_is_an_error_of_the_environment(worker, function):
    """A MemoryError, and a GPU's failure as the cause of another exception, arrive as DeviceUnavailable."""
    with pytest.raises(DeviceUnavailable, match=r"^out of memory .*then run again$"):
        worker.call(function)


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (calls.die, int(calls.SIGKILL), r"worker died with signal 9 \(SIGKILL\)"),
        (calls.die, int(calls.SIGSEGV), r"worker died with signal 11 \(SIGSEGV\)"),
        (calls.exit_with, 3, "worker died with exit status 3"),
    ],
    ids=["killed", "segfault", "exit"],
)
def test_a_dead_worker_is_reported_and_replaced(worker, function, argument, reason):
    """The exception names the signal or exit status; the next call gets a new worker."""
    before = worker.call(calls.process_id)
    with pytest.raises(WorkerDied, match=reason):
        worker.call(function, argument)
    assert worker.call(calls.process_id) != before


def test_a_call_over_its_time_limit_is_killed(worker):
    """The process is killed at its time limit and replaced."""
    before = worker.call(calls.process_id)
    with pytest.raises(WorkerTimeout, match=r"timed out after 0\.3 s"):
        worker.call(calls.sleep, 60.0, timeout_s=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    assert worker.call(calls.double, 2) == 4


def test_each_report_restarts_the_time_limit(worker):
    """A call that reports may take longer than its limit in total; its reports are kept."""
    worker.call(calls.process_id)
    seen = []
    with pytest.raises(WorkerTimeout, match=r"timed out after 2\.4 s"):
        worker.call(calls.report_every, 0.5, 5, timeout_s=2.4, report=seen.append)
    assert seen == [0, 1, 2, 3, 4]


def test_closing_the_pool_ends_running_calls(tmp_path):
    """Closing the pool releases the threads that wait for its workers, and starts no new worker."""
    pool, reasons, busy = WorkerPool(1), [], tmp_path / "busy"

    def wait_long():
        with pool.checkout() as worker:
            for _ in range(2):
                try:
                    worker.call(calls.write_id_and_sleep, str(busy), 600.0)
                except WorkerDied as error:
                    reasons.append(str(error))

    thread = threading.Thread(target=wait_long)
    thread.start()
    until(busy.exists)
    pool.close()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert reasons[-1] == "worker died: the run has ended"


def test_workers_die_with_their_parent(tmp_path):
    """kill -9 of the parent leaves no orphan."""
    file = tmp_path / "worker"
    parent = calls.start_orphan_maker(file)
    orphan = int(until(lambda: file.exists() and file.read_text()))
    parent.kill()
    parent.wait()
    until(lambda: not psutil.pid_exists(orphan))


@pytest.mark.parametrize("way", ["kill", "close"])
def test_two_threads_may_end_a_worker_at_once(way):
    """The thread that closes the pool and the one whose call has ended both end it: no handle is closed twice."""
    for _ in range(5):
        worker, errors = Worker(), []
        worker.call(os.getpid)
        together = threading.Barrier(8)

        def end(worker=worker, together=together, errors=errors):
            together.wait()
            try:
                getattr(worker, way)()
            except (OSError, AttributeError) as error:
                errors.append(error)

        threads = [threading.Thread(target=end) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []


def test_a_worker_gets_time_to_save(tmp_path):
    """The pool closes while it computes: it receives SIGTERM, and its answer is waited for."""
    pool, answers, waiting = WorkerPool(1), [], threading.Event()

    def call():
        with pool.dedicated(threads=1, grace_s=LIMIT_S) as worker:
            arguments = (calls.save_when_terminated, tmp_path / "file")
            answers.append(worker.call(*arguments, report=lambda _: waiting.set()))

    thread = threading.Thread(target=call)
    thread.start()
    assert waiting.wait(LIMIT_S)
    pool.close()
    thread.join(LIMIT_S)
    assert answers == ["ended"]
    assert (tmp_path / "file").read_text() == "saved"


def test_a_dedicated_worker_starts_processes():
    """As a training does to read its batches; other workers may not."""
    pool = WorkerPool(1)
    with closing(pool):
        with pool.dedicated(threads=1) as worker:
            assert worker.call(calls.double_in_a_process, 4) == 8
        with pool.checkout() as worker, pytest.raises(CallFailed, match="daemonic"):
            worker.call(calls.double_in_a_process, 4)
