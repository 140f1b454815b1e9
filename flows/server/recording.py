"""Wait until the Prefect server has recorded a run: it records task runs from events, some time after they end."""

import time
from contextlib import suppress
from datetime import datetime
from typing import Any

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterStartTime
from prefect.client.schemas.objects import TaskRun
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

_TIMEOUT_S = 15.0
_FLUSH_S = 1.2
"""Interval of the queries, longer than the one in which the server flushes its records."""


def wait_until_recorded(since: datetime) -> None:
    """Send all events and logs to the server, then wait until the task runs started after `since` are recorded.

    Never raises an error, whatever fails: the artifact store decides what is done, not the server, and a run that has
    failed shows its own error. Returns after a timeout, or if the server is gone.
    """
    for service in (EventsWorker, APILogWorker):
        with suppress(Exception):
            _send_rest(service)
    with suppress(Exception):
        _wait(since)


def _send_rest(service: Any) -> None:
    """Send what a service of Prefect's has left, and throw away what it can't: it would hold up the process's end."""
    instances = tuple(service._instances.values())  # Prefect forgets an instance as soon as it begins to stop
    service.drain_all(timeout=_TIMEOUT_S)
    for instance in instances:
        if instance._loop is not None and not instance._done_event.is_set():
            instance._loop.call_soon_threadsafe(instance._done_event.set)


def _wait(since: datetime) -> None:
    deadline, before = time.monotonic() + _TIMEOUT_S, -1
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = _task_runs(client, since)
            ended = all(run.state is not None and run.state.is_final() for run in runs)
            if ended and len(runs) == before:
                return
            before = len(runs)
            time.sleep(_FLUSH_S)


def _task_runs(client: SyncPrefectClient, since: datetime, page: int = 200) -> list[TaskRun]:
    """All task runs that started after `since`; the server returns one page per request."""
    started = TaskRunFilter(start_time=TaskRunFilterStartTime.model_validate({"after_": since}))
    runs: list[TaskRun] = []
    while found := client.read_task_runs(task_run_filter=started, limit=page, offset=len(runs)):
        runs += found
    return runs
