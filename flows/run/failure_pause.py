"""The pause of a build in which more heads are quarantined than allowed, until a person says how it goes on."""

from collections.abc import Callable
from typing import TypeVar

from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from pydantic import Field

from spinmeround.flows.run.pause import ask
from spinmeround.flows.run.progress import progress
from spinmeround.flows.run.quarantine import TooManyQuarantined
from spinmeround.flows.run.session import Session

Made = TypeVar("Made")
_LISTED = 10


class FailureInput(RunInput):
    """The form of a build that waits because too many heads have failed."""

    retry: bool = Field(True, description="Try the quarantined heads again, for instance after mending the cause")
    max_quarantined_share: float = Field(
        description="Share of quarantined heads up to which this run goes on", ge=0.0, le=1.0
    )


def pausing_on_failures(session: Session, make: Callable[[], Made]) -> Made:
    """What `make` returns. If too many heads are quarantined, waits for a person and calls it again.

    Raises TooManyQuarantined at once without `execution.failure_pause_s`, and after that time without an answer.
    """
    while True:
        try:
            session.quarantine.check()
            return make()
        except TooManyQuarantined as error:
            if not session.profile.execution.failure_pause_s:
                raise
            try:
                answer = ask(
                    FailureInput.with_initial_data(max_quarantined_share=session.quarantine.max_share),
                    "quarantine",
                    _description(session, error),
                    session.profile.execution.failure_pause_s,
                )
            except FlowPauseTimeout:
                raise error from None
            session.go_on(answer.max_quarantined_share)
            if answer.retry:
                session.quarantine.clear()
            progress().say(f"quarantine: goes on, up to a share of {answer.max_quarantined_share:g}")


def _description(session: Session, error: TooManyQuarantined) -> str:
    failures = session.quarantine.failures()
    lines = [f"- {each.subject} in {each.stage}: {each.reason}" for each in failures[:_LISTED]]
    more = [f"- and {len(failures) - _LISTED} more"] if len(failures) > _LISTED else []
    return "\n\n".join(
        [
            f"{error.counted}.",
            "\n".join([*lines, *more]),
            "Everything that is made is kept. Mend the cause, then submit.",
        ]
    )
