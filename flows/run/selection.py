"""Which heads of a run a stage is run for, as a person writes it: `3, 10-20, split=test, dropped=floaters`.

Terms, of which a head has to meet one: an id, a seed, a range of seeds, `split=NAME`, `dropped` (by screen or review),
`dropped=REASON`, `quarantined`. No term selects all heads.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from spinmeround.storage.dataset.split import SplitFractions, SplitName, split_of
from spinmeround.storage.errors import ConfigError, shortened
from spinmeround.tasks.stage import Head

if TYPE_CHECKING:
    from spinmeround.flows.run.session import Session

GRAMMAR = "ids, seeds, ranges of seeds such as 10-20, split=test, dropped, dropped=REASON, quarantined"
_Term = Callable[[Head], bool]


def select_heads(session: "Session", text: str) -> tuple[Head, ...]:
    """The heads of the session that `text` selects, in order.

    Raises ConfigError for a term that is unknown, or if the terms select no head.
    """
    terms = [_term(session, term.strip()) for term in text.split(",") if term.strip()]
    chosen = tuple(head for head in session.heads if not terms or any(term(head) for term in terms))
    if not chosen:
        first, last = session.heads[0].id, session.heads[-1].id
        raise ConfigError(
            f"heads {shortened(repr(text), 200)}: expected heads of this run, which has {first} to {last}, found none"
        )
    return chosen


def _term(session: "Session", term: str) -> _Term:
    name, _, value = term.partition("=")
    quarantined = {failure.subject for failure in session.quarantine.failures()}
    if term in session.by_id:
        return lambda head: head.id == term
    if seeds := re.fullmatch(r"(\d{1,18})(?:\s*-\s*(\d{1,18}))?", term):
        first, last = int(seeds[1]), int(seeds[2] or seeds[1])
        return lambda head: first <= head.seed <= last
    if name == "split" and value in get_args(SplitName):
        publish = session.profile.publish
        fractions = SplitFractions(validation=publish.validation_share, test=publish.test_share)
        return lambda head: split_of(head.id, fractions) == value
    if name == "dropped" and term != "dropped=":
        return lambda head: value in session.drop_reasons(head) if value else bool(session.drop_reasons(head))
    if term == "quarantined":
        return lambda head: head.id in quarantined
    raise ConfigError(f"heads {shortened(repr(term), 200)}: expected {GRAMMAR}; found another term")
