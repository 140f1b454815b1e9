"""Pauses of a flow run for a person's answer to a form, in the UI or over the API."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL

from spinmeround.flows.run.progress import progress

POLL_S = 2
"""Interval in which a paused run checks whether it may resume, in seconds."""

Form = TypeVar("Form", bound=RunInput)


def ask(
    form: type[Form],
    subject: str,
    description: str,
    timeout_s: float,
    meanwhile: Callable[[UUID], AbstractContextManager[None]] = lambda flow_run: nullcontext(),
) -> Form:
    """Pause the active flow run until the form is submitted; returns the answer.

    The description, in Markdown, is above the form; its lines are shown as progress, too, each after the `subject`.
    `meanwhile` is entered with the id of the paused run. Raises FlowPauseTimeout without an answer in time.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    timeout = max(1, round(timeout_s))
    end = (datetime.now().astimezone() + timedelta(seconds=timeout)).isoformat(" ", "minutes")
    for line in (*description.splitlines(), _form_address(context.flow_run.id), f"waits until {end}"):
        if line:
            progress().say(f"{subject}: {line}")
    get_run_logger().info("waiting: %s\n%s", subject, description)
    with meanwhile(context.flow_run.id):
        filled = form.with_initial_data(description=description)
        return pause_flow_run(wait_for_input=filled, timeout=timeout, poll_interval=POLL_S)


def _form_address(flow_run: UUID) -> str:
    """Where the form of a paused run is."""
    api = str(PREFECT_API_URL.value() or "")
    with suppress(httpx.HTTPError):
        if "html" in httpx.get(api.removesuffix("/api"), timeout=2, follow_redirects=True).headers["content-type"]:
            return f"the form: {api.removesuffix('/api')}/runs/flow-run/{flow_run}"
    return f"the form: 'spinmeround serve' on the same runs, then http://127.0.0.1:4200/runs/flow-run/{flow_run}"
