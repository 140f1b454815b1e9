"""A build that waits for a person: paused in the Prefect UI after screening, until somebody has reviewed.

It goes on when the form in the UI (or the API) is answered, or when the review page's "Done" is pressed,
which marks these very verdicts as reviewed in the decisions file. What the form says is merged into that
file before the run goes on, so no rerun asks again, or loses it.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.settings import PREFECT_API_URL
from pydantic import Field

from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.session import Session
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.screening.decisions import (
    is_reviewed,
    load_decisions,
    mark_reviewed,
    merge_decisions,
    read_decisions,
    record,
    review_digest,
)
from spinmeround.tasks.stage import Ruling

POLL_S = 2
"""How often the run looks whether it may go on, in seconds."""

review_command: ContextVar[str] = ContextVar("review_command", default="")
"""The command that opens the review page of the run that goes on here, where the command line started it."""


class ReviewInput(RunInput):
    """The form of a paused build. Left empty, the run goes on with the verdicts and decisions as they are."""

    keep: str = Field("", description="Ids of heads to keep whatever the screen says, separated by spaces or commas")
    drop: str = Field("", description="Ids of heads to drop, separated by spaces or commas")
    decisions_file: str = Field(
        "", description="A decisions file to take in, on the machine of the run, for instance from the page's download"
    )


def wait_for_review(session: Session) -> None:
    """Return once a person has reviewed the screened heads; the session then has their decisions.

    Raises SpinMeRoundError when nobody has within `review.pause_timeout_s`.
    """
    deadline, problem = time.monotonic() + session.profile.review.pause_timeout_s, ""
    verdicts = session.screen_verdicts()
    session.reload_decisions()
    while not is_reviewed(verdicts, session.decisions):
        digest = review_digest(verdicts)
        answer = _pause(session, digest, _description(session, problem), deadline)
        try:
            take(session, answer)
            mark_reviewed(session.decisions_file, session.generator, digest)
            problem = ""
        except ConfigError as error:
            problem = str(error)
            progress().say(f"review: {error}")
        session.reload_decisions()
    rulings = Counter(session.decisions.rulings().values())
    progress().say(f"review: goes on with {rulings['keep']} heads kept and {rulings['drop']} dropped by a person")


def take(session: Session, answer: ReviewInput) -> None:
    """Merge a form into the decisions file.

    Raises ConfigError, and takes nothing, where an id is not one of the run's or the named file can't be used.
    """
    known = {head.id for head in session.heads}
    rulings: dict[str, Ruling] = {}
    fields: tuple[tuple[Ruling, str], ...] = (("keep", answer.keep), ("drop", answer.drop))
    for ruling, text in fields:
        for name in re.split(r"[\s,;]+", text.strip()) if text.strip() else ():
            if name not in known:
                raise ConfigError(f"{ruling}: expected ids of heads as {session.heads[0].id}, found {name!r}")
            if name in rulings and rulings[name] != ruling:
                raise ConfigError(f"{name}: asked to be both kept and dropped; name it once")
            rulings[name] = ruling
    if answer.decisions_file.strip():
        merge_decisions(session.decisions_file, read_decisions(Path(answer.decisions_file.strip()), session.generator))
    if rulings:
        record(session.decisions_file, session.generator, rulings)


def screen_counts(session: Session) -> str:
    """What the screen said, in a line."""
    verdicts = session.screen_verdicts()
    reasons = Counter(reason for verdict in verdicts.values() for reason in verdict.reasons)
    dropped = sum(not verdict.keep for verdict in verdicts.values())
    why = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in reasons.most_common())
    told = f"{len(verdicts)} heads screened: {len(verdicts) - dropped} kept, {dropped} dropped"
    return told + (f" ({why})" if why else "")


def _pause(session: Session, digest: str, description: str, deadline: float) -> ReviewInput:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    left = max(1, round(deadline - time.monotonic()))
    end = (datetime.now().astimezone() + timedelta(seconds=left)).isoformat(" ", "minutes")
    for line in (*description.splitlines(), *_where(context.flow_run.id), f"waits until {end}"):
        if line:
            progress().say(f"review: {line}")
    get_run_logger().info("waiting for a person's review\n%s", description)
    form = ReviewInput.with_initial_data(description=description)
    try:
        with _resumed_by_the_page(session, digest, context.flow_run.id):
            return pause_flow_run(wait_for_input=form, timeout=left, poll_interval=POLL_S)
    except FlowPauseTimeout as error:
        raise SpinMeRoundError(
            f"nobody reviewed the heads within review.pause_timeout_s ({session.profile.review.pause_timeout_s} s); "
            "all verdicts and decisions are kept: review with 'spinmeround review', then run this again, "
            "and it goes on from here"
        ) from error


def _description(session: Session, problem: str) -> str:
    rulings = Counter(session.decisions.rulings().values())
    command = review_command.get() or f"spinmeround review --profile {session.profile.name} (with this run's options)"
    lines = [
        f"{screen_counts(session)}.",
        f"Decided by a person so far: {rulings['keep']} keep, {rulings['drop']} drop.",
        f"To look at them, run `{command}`; its Done button lets this run go on.",
        "Or answer the form here: name heads to keep or drop, or leave it empty to go on as it stands.",
    ]
    return "\n\n".join([f"Not taken: {problem}", *lines] if problem else lines)


def _where(flow_run: UUID) -> list[str]:
    """Where the form is."""
    api = str(PREFECT_API_URL.value() or "")
    with suppress(httpx.HTTPError):
        if "html" in httpx.get(api.removesuffix("/api"), timeout=2, follow_redirects=True).headers["content-type"]:
            return [f"the form: {api.removesuffix('/api')}/runs/flow-run/{flow_run}"]
    return [f"the form: 'spinmeround serve' on the same runs, then http://127.0.0.1:4200/runs/flow-run/{flow_run}"]


@contextmanager
def _resumed_by_the_page(session: Session, digest: str, flow_run: UUID) -> Iterator[None]:
    """While the block waits, resume the run as soon as the decisions file says that these verdicts are reviewed."""
    over = threading.Event()

    def watch() -> None:
        with get_client(sync_client=True) as client:
            while not over.wait(POLL_S / 2):
                # a file that can't be read just now is told when the run goes on
                with suppress(SpinMeRoundError, OSError, httpx.HTTPError):
                    if digest in load_decisions(session.decisions_file, session.generator).reviewed:
                        client.resume_flow_run(flow_run, run_input={})

    thread = threading.Thread(target=watch, name="review-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
