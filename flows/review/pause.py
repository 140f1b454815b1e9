"""The review pause of a build: after screening, the Prefect run is paused until a person has reviewed the heads.

It resumes when the form in the UI (or the API) is submitted, or when the "Done" button of the review page marks the
current verdicts as reviewed in the decisions file. The form is merged into that file before the run resumes, so a
rerun does not pause again and keeps the answer.
"""

import re
import time
from collections import Counter
from contextvars import ContextVar
from pathlib import Path

from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from pydantic import Field

from spinmeround.flows.run.pause import ask
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
from spinmeround.tasks.stage import Decision

review_command: ContextVar[str] = ContextVar("review_command", default="")
"""The command that opens the review page of the active run, if the command line started the run."""


class ReviewInput(RunInput):
    """The form of a paused build. An empty form accepts the current verdicts and decisions."""

    keep: str = Field("", description="Ids of heads to keep against the screen, separated by spaces or commas")
    drop: str = Field("", description="Ids of heads to drop, separated by spaces or commas")
    decisions_file: str = Field(
        "", description="Path of a decisions file to merge, on the machine of the run; the review page downloads one"
    )


def wait_for_review(session: Session) -> None:
    """Return once a person has reviewed the screened heads, with their decisions loaded into the session.

    Raises SpinMeRoundError after `review.pause_timeout_s` without a review.
    """
    deadline, problem = time.monotonic() + session.profile.review.pause_timeout_s, ""
    verdicts = session.screen_verdicts()
    session.reload_decisions()
    while not is_reviewed(verdicts, session.decisions):
        digest = review_digest(verdicts)
        answer = _pause(session, digest, _description(session, problem), deadline)
        try:
            apply_answer(session, answer)
            mark_reviewed(session.decisions_file, session.generator, digest)
            problem = ""
        except ConfigError as error:
            problem = str(error)
            progress().say(f"review: {error}")
        session.reload_decisions()
    decisions = Counter(session.decisions.active().values())
    progress().say(f"review: resumes with decisions to keep {decisions['keep']} heads and drop {decisions['drop']}")


def apply_answer(session: Session, answer: ReviewInput) -> None:
    """Merge a form into the decisions file.

    Raises ConfigError, and changes nothing, if an id is not one of the run's or the decisions file is unusable.
    """
    decisions = _decisions(session, answer)
    if answer.decisions_file.strip():
        merge_decisions(session.decisions_file, read_decisions(Path(answer.decisions_file.strip()), session.generator))
    if decisions:
        record(session.decisions_file, session.generator, decisions)


def _decisions(session: Session, answer: ReviewInput) -> dict[str, Decision]:
    """The decisions in the fields of a form, by head id."""
    decisions: dict[str, Decision] = {}
    fields: tuple[tuple[Decision, str], ...] = (("keep", answer.keep), ("drop", answer.drop))
    for decision, text in fields:
        for name in re.split(r"[\s,;]+", text.strip()) if text.strip() else ():
            if name not in session.by_id:
                raise ConfigError(f"{decision}: expected ids of heads as {session.heads[0].id}, found {name!r}")
            if name in decisions and decisions[name] != decision:
                raise ConfigError(f"{name}: found in both keep and drop; name it in one of them")
            decisions[name] = decision
    return decisions


def screen_summary(session: Session) -> str:
    """The outcome of the screen in one line."""
    verdicts = session.screen_verdicts()
    reasons = Counter(reason for verdict in verdicts.values() for reason in verdict.reasons)
    dropped = sum(not verdict.keep for verdict in verdicts.values())
    why = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in reasons.most_common())
    counts = f"{len(verdicts)} heads screened: {len(verdicts) - dropped} kept, {dropped} dropped"
    return counts + (f" ({why})" if why else "")


def _pause(session: Session, digest: str, description: str, deadline: float) -> ReviewInput:
    """Pause the flow run until the form is submitted or the verdicts are marked as reviewed; returns the form."""
    try:
        left = deadline - time.monotonic()
        return ask(ReviewInput, "review", description, left, lambda: _is_marked(session, digest))
    except FlowPauseTimeout as error:
        raise SpinMeRoundError(
            f"no review within review.pause_timeout_s ({session.profile.review.pause_timeout_s} s); "
            "all verdicts and decisions are kept: review with 'spinmeround review', then run the same command again "
            "to continue"
        ) from error


def _is_marked(session: Session, digest: str) -> bool:
    """Whether the decisions file marks these verdicts as reviewed."""
    return digest in load_decisions(session.decisions_file, session.generator).reviewed


def _description(session: Session, problem: str) -> str:
    """The text above the form, in Markdown; `problem` is why the previous answer was rejected."""
    decisions = Counter(session.decisions.active().values())
    command = review_command.get() or f"spinmeround review --profile {session.profile.name} (with this run's options)"
    lines = [
        f"{screen_summary(session)}.",
        f"Decisions so far: {decisions['keep']} keep, {decisions['drop']} drop.",
        f"To look at the heads, run `{command}`; its Done button resumes this run.",
        "Or submit this form: name heads to keep or drop, or leave it empty to accept the current state.",
    ]
    return "\n\n".join([f"Rejected: {problem}", *lines] if problem else lines)
