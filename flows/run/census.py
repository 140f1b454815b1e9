"""Census: the outcome of every head of a run, counted."""

from collections import Counter
from collections.abc import Callable, Sequence, Set

from spinmeround.flows.run.verdicts import FinalVerdict
from spinmeround.tasks.dataset.publish import Counts
from spinmeround.tasks.stage import Head


def take_census(
    heads: Sequence[Head],
    *,
    verdict: Callable[[Head], FinalVerdict | None],
    written: Callable[[Head], bool],
    quarantined: Set[str],
) -> tuple[list[Head], Counts]:
    """The heads that are ready to publish, and the counts of all heads.

    `verdict` is the final verdict on a head, if any, `written` whether all artifacts exist that the dataset is
    joined from, and `quarantined` the ids of the heads that failed for good.
    """
    first: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    ready, lost, kept_by_review = [], 0, 0
    for head in heads:
        final = verdict(head)
        kept_by_review += final is not None and final.kept_by_review
        if final is not None and not final.keep:
            first[final.reasons[0]] += 1
            reasons.update(final.reasons)
        elif written(head):
            ready.append(head)
        else:
            lost += head.id in quarantined
    counts = Counts(
        asked=len(heads),
        screened_out=dict(sorted(first.items())),
        screen_reasons=dict(sorted(reasons.items())),
        dropped=first.total(),
        kept_by_review=kept_by_review,
        quarantined=lost,
        written=len(ready),
        pending=len(heads) - first.total() - lost - len(ready),
    )
    return ready, counts
