"""What pauses of flow runs for people share: where the form is, and resuming without it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from uuid import UUID

import httpx
from prefect import get_client
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL

from spinmeround.storage.errors import SpinMeRoundError


def current_flow_run() -> UUID:
    """The id of the active flow run."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return context.flow_run.id


def form_address(flow_run: UUID) -> str:
    """Where the form of a paused run is."""
    api = str(PREFECT_API_URL.value() or "")
    with suppress(httpx.HTTPError):
        if "html" in httpx.get(api.removesuffix("/api"), timeout=2, follow_redirects=True).headers["content-type"]:
            return f"the form: {api.removesuffix('/api')}/runs/flow-run/{flow_run}"
    return f"the form: 'spinmeround serve' on the same runs, then http://127.0.0.1:4200/runs/flow-run/{flow_run}"


@contextmanager
def resumed_once(answered: Callable[[], bool], flow_run: UUID, *, poll_s: float) -> Iterator[None]:
    """During the block, resume the paused run with an empty form as soon as `answered` is true.

    `answered` reads a file, every `poll_s` seconds. One that cannot be read is reported when the run resumes.
    """
    over = threading.Event()

    def watch() -> None:
        with get_client(sync_client=True) as client:
            while not over.wait(poll_s):
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
