"""A training that is asked to end, whatever it does at that moment."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from prefect.states import Completed, exception_to_failed_state

from spinmeround.flows.run.workers import Worker, WorkerDied
from spinmeround.flows.training import _shown_interruption, was_interrupted
from spinmeround.storage.errors import Interrupted
from tests.flows.run import calls


@pytest.mark.parametrize(
    ("number", "expected", "again"),
    [(signal.SIGTERM, Interrupted, True), (signal.SIGKILL, WorkerDied, False)],
    ids=["SIGTERM", "SIGKILL"],
)
def test_a_process_that_dies_of_sigterm_was_interrupted(
    number: int, expected: type[Exception], again: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM while nothing catches it, as when the networks are loaded: the task run starts again. SIGKILL, as when
    memory ran out, is a failure."""
    with closing(Worker()) as worker, pytest.raises(expected) as raised, _shown_interruption("multi-view"):
        worker.call(calls.die, int(number))

    def starts_again() -> bool:
        return was_interrupted(None, None, asyncio.run(exception_to_failed_state(raised.value)))

    with ThreadPoolExecutor(1) as pool:  # a browser of other tests leaves an event loop in this thread
        assert pool.submit(starts_again).result() is again
        assert not pool.submit(was_interrupted, None, None, Completed()).result()
    assert ("multi-view: was asked to end" in capsys.readouterr().err) is again
