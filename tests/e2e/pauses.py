"""Paused flow runs: which there are, what their forms show, and answers to them while a build waits."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType

from tests.support.waiting import until


def paused() -> list[FlowRun]:
    """The paused runs."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state))


@contextmanager
def meanwhile(act: Callable[[FlowRun, Callable[[dict], Any]], None]) -> Iterator[None]:
    """While the block builds, call `act` with the run that pauses and a function that submits its form."""
    before = {run.id for run in paused()}
    errors: list[str] = []

    def answer() -> None:
        try:
            run = until(lambda: next((run for run in paused() if run.id not in before), None))
            with get_client(sync_client=True) as client:
                act(run, lambda values: client.resume_flow_run(run.id, run_input=values))
        except BaseException as error:
            errors.append(repr(error))

    thread = threading.Thread(target=copy_context().run, args=(answer,))  # which has the settings of the test
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert errors == []


def form(run: FlowRun) -> dict[str, Any]:
    """The description and the fields that the UI shows of a paused run."""
    keyset = run.state.state_details.run_input_keyset
    with get_client(sync_client=True) as client:
        answers = [client.read_flow_run_input(run.id, keyset[name]) for name in ("description", "schema")]
    return dict(zip(("description", "schema"), map(json.loads, answers), strict=True))
