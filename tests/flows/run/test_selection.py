"""Heads that a person selects for a stage."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from spinmeround.flows.run.selection import select_heads
from spinmeround.flows.run.session import Session
from spinmeround.storage.dataset.split import SplitFractions, split_of
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.stage import Head

pytestmark = pytest.mark.fast
HEADS = tuple(Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(20))
DROPPED = {4: ("floaters", "clipped_volume"), 7: ("review",)}


def selected(text: str) -> list[int]:
    """Seeds of the selected heads among twenty, of which 4 and 7 are dropped and 3 is quarantined."""
    session: Any = SimpleNamespace(
        heads=HEADS,
        by_id={head.id: head for head in HEADS},
        profile=SimpleNamespace(publish=SimpleNamespace(validation_share=0.2, test_share=0.3)),
        quarantine=SimpleNamespace(failures=lambda: (SimpleNamespace(subject="tiny-000003"),)),
        drop_reasons=lambda head: DROPPED.get(head.seed, ()),
    )
    return [head.seed for head in select_heads(cast(Session, session), text)]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", list(range(20))),
        (" , ", list(range(20))),
        ("5", [5]),
        ("tiny-000005", [5]),
        ("17-99, 2 - 3", [2, 3, 17, 18, 19]),
        ("dropped", [4, 7]),
        ("dropped=clipped_volume", [4]),
        ("quarantined, 0", [0, 3]),
    ],
)
def test_terms_are_united(text: str, seeds: list[int]) -> None:
    """Ids, seeds, ranges, reasons and the quarantine; heads stay in order, and no term selects all."""
    assert selected(text) == seeds


def test_a_split_is_that_of_the_dataset() -> None:
    """The three splits are disjoint, complete, and follow the rule that the dataset uses."""
    parts = [selected(f"split={name}") for name in ("train", "validation", "test")]
    assert sorted(seed for part in parts for seed in part) == list(range(20))
    fractions = SplitFractions(validation=0.2, test=0.3)
    assert parts[2] == [head.seed for head in HEADS if split_of(head.id, fractions) == "test"]


@pytest.mark.parametrize("text", ["split=tests", "dropped=", "5-", "all", "tiny-5", "quarantine"])
def test_unknown_terms(text: str) -> None:
    """The error quotes the term and says what is expected."""
    with pytest.raises(ConfigError, match=rf"heads '{text}': expected ids, seeds"):
        selected(text)


def test_no_head_is_selected() -> None:
    """The error names the heads that there are."""
    with pytest.raises(ConfigError, match="tiny-000000 to tiny-000019, found none"):
        selected("30-40")
