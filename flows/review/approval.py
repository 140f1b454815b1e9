"""The approval of a better model: the Prefect run is paused until a person answers, in its form or by a command.

`spinmeround models approve` writes the answer into the registry, from which the paused run reads it and resumes. The
answer of the form is written there, too, so a rerun does not ask again.
"""

from contextvars import ContextVar

from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput
from pydantic import Field

from spinmeround.flows.run.pause import ask, current_flow_run
from spinmeround.flows.run.progress import progress
from spinmeround.storage.artifacts import Answer, ModelRegistry, stamp
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.promotion.params import PromoteParams

approve_command: ContextVar[str] = ContextVar("approve_command", default="")
"""The command that approves of a model of the active run, if the command line started the run."""


class ApprovalInput(RunInput):
    """The form of a paused promotion. An empty form refuses."""

    approve: bool = Field(False, description="Move the alias to the new model")
    comment: str = Field("", description="Why; it is kept in the model's history")


def wait_for_approval(registry: ModelRegistry, number: int, params: PromoteParams, description: str) -> Answer:
    """The answer of a person to whether the alias may be moved to a version; one that was given before counts.

    `description` is the text above the form, in Markdown. Raises SpinMeRoundError after `promote.approval_timeout_s`.
    """
    answer = registry.get(params.model).answer(number, params.alias)
    if answer is not None:
        return answer
    form = _pause(registry, number, params, description)
    answer = registry.get(params.model).answer(number, params.alias)
    if answer is None:
        given = stamp(str(current_flow_run())).model_copy(update={"by": "the form of the flow run"})
        comment = form.comment.strip()
        answer = Answer(version=number, alias=params.alias, approved=form.approve, comment=comment, given=given)
        registry.record_answer(params.model, answer)
    progress().say(f"approval: {'given' if answer.approved else 'refused'} by {answer.given.by}")
    return answer


def _pause(registry: ModelRegistry, number: int, params: PromoteParams, description: str) -> ApprovalInput:
    """Pause the flow run until its form is submitted or the registry has an answer; returns the form."""
    named, base = f"{params.model}@{number}", approve_command.get() or "spinmeround models approve"
    command = f"{base} {named}" + ("" if approve_command.get() else " (with this run's options)")

    def answered() -> bool:
        return registry.get(params.model).answer(number, params.alias) is not None

    try:
        text = f"{description}\n\nAnswer here, or run `{command}`; `--refuse` refuses."
        return ask(ApprovalInput, "approval", text, params.approval_timeout_s, answered)
    except FlowPauseTimeout as error:
        raise SpinMeRoundError(
            f"no answer within promote.approval_timeout_s ({params.approval_timeout_s} s); {named} stays registered: "
            f"run '{base} {named}', then the same command again"
        ) from error
