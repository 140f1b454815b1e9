"""The census counts every head of a run once."""

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinmeround.flows.run.census import take_census
from spinmeround.flows.run.verdicts import FinalVerdict
from spinmeround.tasks.stage import Head

pytestmark = pytest.mark.fast
DROPPED = FinalVerdict(keep=False, reasons=("stray_volume", "review"), kept_by_review=False)
KEPT = FinalVerdict(keep=True, reasons=(), kept_by_review=False)
KEPT_BY_REVIEW = FinalVerdict(keep=True, reasons=(), kept_by_review=True)


def census(states: list[tuple[FinalVerdict | None, bool, bool]]):
    """The census of heads with these (verdict, written, quarantined)."""
    heads = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(len(states))]
    return take_census(
        heads,
        verdict=lambda head: states[head.seed][0],
        written=lambda head: states[head.seed][1],
        quarantined={head.id for head in heads if states[head.seed][2]},
    )


def test_counts_by_outcome():
    """A dropped head counts under its first reason, a complete one as written even if an old failure exists."""
    ready, counts = census(
        [(DROPPED, False, False), (KEPT, True, True), (KEPT_BY_REVIEW, False, True), (None, False, False)]
    )
    assert [head.seed for head in ready] == [1]
    assert asdict(counts) == {
        "asked": 4,
        "screened_out": {"stray_volume": 1},
        "screen_reasons": {"review": 1, "stray_volume": 1},
        "dropped": 1,
        "kept_by_review": 1,
        "quarantined": 1,
        "written": 1,
        "pending": 1,
    }


@given(st.lists(st.tuples(st.sampled_from([None, DROPPED, KEPT, KEPT_BY_REVIEW]), st.booleans(), st.booleans())))
def test_every_head_counts_once(states):
    """asked = dropped + quarantined + written + pending, none of them negative."""
    ready, counts = census(states)
    parts = (counts.dropped, counts.quarantined, counts.written, counts.pending)
    assert sum(parts) == counts.asked == len(states)
    assert min(parts) >= 0
    assert len(ready) == counts.written
