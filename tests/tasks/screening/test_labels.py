"""The labels file: how heads are drawn, what passing a head means, and what is refused."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.screening.decisions import Decisions, GeneratorId
from spinmeround.tasks.screening.labels import (
    Labels,
    Round,
    finish_labels,
    is_labels_file,
    label_head,
    load_labels,
    random_order,
    uncertain_order,
)

pytestmark = pytest.mark.fast
TINY = GeneratorId(name="tiny", fingerprint="tiny-1")
NAMES = [f"tiny-{seed:06d}" for seed in range(200)]
NOW = datetime(2026, 11, 29, tzinfo=UTC)
RANDOM = Round(order="random", seed=0, heads=200, began=NOW)
UNCERTAIN = Round(order="uncertain", seed=0, heads=200, began=NOW, verdict="abc")


def test_a_head_that_was_passed_is_kept_only_after_done(tmp_path):
    """Until then it has no label; afterwards the file says that the person did not mark it."""
    path = tmp_path / "labels.json"
    label_head(path, TINY, RANDOM, NAMES[0], "drop")
    label_head(path, TINY, RANDOM, NAMES[1], "passed")
    assert load_labels(path, TINY).defective() == {NAMES[0]: True}
    found = finish_labels(path, TINY)
    assert found.defective() == {NAMES[0]: True, NAMES[1]: False}
    assert [found.labels[name].marked for name in NAMES[:2]] == [True, False]
    assert load_labels(path, TINY) == found


def test_taking_a_label_back_leaves_the_round(tmp_path):
    path = tmp_path / "labels.json"
    label_head(path, TINY, RANDOM, NAMES[0], "drop")
    found = label_head(path, TINY, RANDOM, NAMES[0], "none")
    assert (found.labels, found.rounds) == ({}, (RANDOM,))


def test_the_same_draw_is_one_round(tmp_path):
    """A round that is continued on another day is one round; another seed or another order is another."""
    path = tmp_path / "labels.json"
    again = RANDOM.model_copy(update={"began": datetime(2026, 12, 1, tzinfo=UTC)})
    label_head(path, TINY, RANDOM, NAMES[0], "keep")
    label_head(path, TINY, again, NAMES[1], "keep")
    found = label_head(path, TINY, UNCERTAIN, NAMES[2], "drop")
    assert found.rounds == (RANDOM, UNCERTAIN)
    assert [found.drawn_at_random(name) for name in NAMES[:3]] == [True, True, False]


def test_random_order_is_a_permutation_that_continues():
    """The order depends on the seed only; labelled heads are left out, and the rest stays in its order."""
    everything = random_order(NAMES, Labels(generator=TINY), seed=0)
    assert sorted(everything) == NAMES
    assert everything == random_order(NAMES[::-1], Labels(generator=TINY), seed=0)
    assert everything != random_order(NAMES, Labels(generator=TINY), seed=1)
    labels, at = Labels(generator=TINY).with_round(RANDOM)
    for name in everything[:30]:
        labels = labels.with_label(name, "keep", at)
    assert random_order(NAMES, labels, seed=0) == everything[30:]


def test_a_random_sample_does_not_depend_on_a_verdict():
    """Heads that an uncertain round has labelled are drawn again, or the sample would lack exactly the hard heads."""
    labels, at = Labels(generator=TINY).with_round(UNCERTAIN)
    labels = labels.with_label(NAMES[3], "drop", at)
    assert NAMES[3] in random_order(NAMES, labels, seed=0)


def test_uncertain_heads_come_first():
    """By the distance to the threshold on either side, without the labelled ones."""
    labels, at = Labels(generator=TINY).with_round(RANDOM)
    labels = labels.with_label("b", "keep", at)
    assert uncertain_order({"a": -3.0, "b": 0.0, "c": 0.5, "d": -0.2}, labels) == ["d", "c", "a"]


def test_first_heads_of_a_random_order_estimate_shares():
    """Over many seeds, the share of defective heads among the first 20 averages to that of all heads."""
    defective = set(NAMES[:50])
    shares = [
        np.mean([name in defective for name in random_order(NAMES, Labels(generator=TINY), seed)[:20]])
        for seed in range(300)
    ]
    assert np.mean(shares) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", "expected a file written by 'spinmeround screen label', found generator"),
        (b'{"schema_version": 2}', "schema version 2, this software reads up to 1"),
        (Labels(generator=GeneratorId(name="other", fingerprint="o")).to_json(), "labels of heads of tiny"),
        (
            Labels(generator=TINY).to_json().replace(b'"labels": {}', b'"labels": {"a": {"label": "keep", '
            b'"marked": true, "round": 3, "time": "2026-11-29T00:00:00Z"}}'),
            "expected one of 0 rounds, got 3",
        ),
    ],
    ids=["empty", "newer", "other generator", "unknown round"],
)  # fmt: skip
def test_an_unusable_file_is_refused(content, message, tmp_path):
    """The error names the file and what is wrong."""
    path = tmp_path / "labels.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_labels(path, TINY)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "file/x.json", ""], ids=["null", "long", "below a file", "folder"])
def test_a_path_that_is_no_file_s_is_refused(tmp_path, name):
    """It does not count as a file that does not exist."""
    (tmp_path / "file").write_text("{}")
    with pytest.raises(SpinMeRoundError, match=r"expected a file, found|the name is too long"):
        load_labels(tmp_path / name, TINY)


def test_labels_and_decisions_are_told_apart():
    assert is_labels_file(Labels(generator=TINY).to_json())
    assert not is_labels_file(Decisions(generator=TINY).to_json())
    assert not is_labels_file(b"no json")
    assert not is_labels_file(Path(__file__).read_bytes())
