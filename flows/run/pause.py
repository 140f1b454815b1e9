"""Pauses of a flow run for a person's answer: in a form of the UI, over the API, or in a file that is watched."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL

from spinmeround.flows.run.progress import progress
from spinmeround.storage.errors import SpinMeRoundError

POLL_S = 2
"""Interval in which a paused run checks whether it may resume, in seconds."""

Form = TypeVar("Form", bound=RunInput)


def ask(
    form: type[Form],
    subject: str,
    description: str,
    timeout_s: float,
    answered: Callable[[], bool] = lambda: False,
) -> Form:
    """Pause the active flow run until its form is submitted, or `answered` is true; returns the form.

    The description, in Markdown, is above the form; its lines are shown as progress, too, each after the `subject`.
    Raises FlowPauseTimeout without an answer in time.
    """
    flow_run, timeout = current_flow_run(), max(1, round(timeout_s))
    end = (datetime.now().astimezone() + timedelta(seconds=timeout)).isoformat(" ", "minutes")
    for line in (*description.splitlines(), _form_address(flow_run), f"waits until {end}"):
        if line:
            progress().say(f"{subject}: {line}")
    get_run_logger().info("waiting: %s\n%s", subject, description)
    filled = form.with_initial_data(description=description)
    with _resumed_once(answered, flow_run):
        return pause_flow_run(wait_for_input=filled, timeout=timeout, poll_interval=POLL_S)


def current_flow_run() -> UUID:
    """The id of the active flow run."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return context.flow_run.id


def _form_address(flow_run: UUID) -> str:
    """Where the form of a paused run is."""
    api = str(PREFECT_API_URL.value() or "")
    with suppress(httpx.HTTPError):
        if "html" in httpx.get(api.removesuffix("/api"), timeout=2, follow_redirects=True).headers["content-type"]:
            return f"the form: {api.removesuffix('/api')}/runs/flow-run/{flow_run}"
    return f"the form: 'spinmeround serve' on the same runs, then http://127.0.0.1:4200/runs/flow-run/{flow_run}"


@contextmanager
def _resumed_once(answered: Callable[[], bool], flow_run: UUID) -> Iterator[None]:
    """During the block, resume the paused run with an empty form as soon as `answered` is true.

    `answered` may read a file, every POLL_S / 2 seconds. One that cannot be read is reported when the run resumes.
    """
    over = threading.Event()

    def watch() -> None:
        with get_client(sync_client=True) as client:
            while not over.wait(POLL_S / 2):
                with suppress(SpinMeRoundError, OSError, httpx.HTTPError):
                    if answered():
                        client.resume_flow_run(flow_run, run_input={})

    # in a copy of the context, which has the settings of the run: its server, for instance
    thread = threading.Thread(target=copy_context().run, args=(watch,), name="answer-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
