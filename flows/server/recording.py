"""Waits until the server has written a run down: task runs are recorded from events, some time after they end."""

import time
from contextlib import suppress
from datetime import datetime

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterStartTime
from prefect.client.schemas.objects import TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

_PATIENCE_S = 15.0
_FLUSH_S = 1.2


def settle(since: datetime) -> None:
    """Hand all events and logs to the server, then wait until the task runs that began after `since` have ended there.

    Gives up quietly after some seconds, or where the server is gone: the artifact store, not the server, knows what
    was done.
    """
    EventsWorker.drain_all(timeout=_PATIENCE_S)
    APILogWorker.drain_all(timeout=_PATIENCE_S)
    deadline, before = time.monotonic() + _PATIENCE_S, -1
    with suppress(httpx.HTTPError), get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = _task_runs(client, since)
            settled = all(run.state is not None and run.state.is_final() for run in runs)
            if settled and len(runs) == before:
                return
            before = len(runs)
            time.sleep(_FLUSH_S)


def _task_runs(client: SyncPrefectClient, since: datetime, page: int = 200) -> list[TaskRun]:
    """All task runs that began after `since`; the server gives a page at a time."""
    began = TaskRunFilter(start_time=TaskRunFilterStartTime.model_validate({"after_": since}))
    runs: list[TaskRun] = []
    while found := client.read_task_runs(task_run_filter=began, limit=page, offset=len(runs)):
        runs += found
    return runs
