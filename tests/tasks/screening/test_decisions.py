"""The decisions file: merged, never overwritten, and never about somebody else's heads."""

import json
import multiprocessing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.storage.errors import ConfigError, StorageUnavailable
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.screening.decisions import (
    Decision,
    Decisions,
    GeneratorId,
    is_reviewed,
    load_decisions,
    mark_reviewed,
    merge_decisions,
    read_decisions,
    record,
    record_unless_newer,
    review_digest,
    unknown_ids,
    with_decisions,
)
from spinmeround.tasks.stage import Head

GENERATOR = GeneratorId(name="tiny", fingerprint="tiny-1")
START = datetime(2026, 11, 22, tzinfo=UTC)
HEADS = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(3)]

choices = st.sampled_from(["keep", "drop", "none"])
times = st.integers(0, 5).map(lambda seconds: START + timedelta(seconds=seconds))
decisions = st.builds(Decision, decision=choices, note=st.just(""), time=times)
files = st.builds(
    Decisions,
    generator=st.just(GENERATOR),
    decisions=st.dictionaries(st.sampled_from([head.id for head in HEADS]), decisions),
)


@given(files, files, files)
def test_merging_loses_nothing(first: Decisions, second: Decisions, third: Decisions):
    """Every head of either file is there with the newest word on it; twice the same, or grouped anyhow, is the same."""
    both = first.merged(second)
    for name in first.decisions.keys() | second.decisions.keys():
        newest = max(file.decisions[name].time for file in (first, second) if name in file.decisions)
        assert both.decisions[name].time == newest
    assert both.merged(second) == both == both.merged(first)
    assert both.merged(third) == first.merged(second.merged(third))


@settings(max_examples=20, deadline=None)
@given(files)
def test_a_file_reads_back_as_it_was_written(tmp_path_factory, file: Decisions):
    """Notes, times and retractions survive the disk."""
    path = tmp_path_factory.mktemp("file") / "decisions.json"
    assert merge_decisions(path, file) == file == load_decisions(path, GENERATOR)


def test_a_new_decision_is_the_newest(tmp_path):
    """Also where the file was written by a clock that goes ahead; a retraction stays, so that merging can't undo it."""
    path = tmp_path / "decisions.json"
    ahead = Decision(decision="keep", time=datetime.now(UTC) + timedelta(days=1))
    old = Decisions(generator=GENERATOR, decisions={"tiny-000000": ahead})
    merge_decisions(path, old)
    record(path, GENERATOR, {"tiny-000000": "none"})
    assert merge_decisions(path, old).rulings() == {}


EARLIER, LATER = START, START + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("there", "seen", "taken"),
    [
        (None, None, True),
        (None, EARLIER, True),
        (EARLIER, EARLIER, True),
        (EARLIER, LATER, True),
        (EARLIER, None, False),
        (LATER, EARLIER, False),
    ],
    ids=["first", "file moved away", "what was seen", "older file put back", "not seen", "newer than seen"],
)
def test_an_unseen_decision_is_not_overruled(tmp_path, there, seen, taken):
    """What a person decided holds unless somebody decided after what they saw; either way the file's word is told."""
    path = tmp_path / "decisions.json"
    if there is not None:
        theirs = Decision(decision="keep", note="theirs", time=there)
        merge_decisions(path, Decisions(generator=GENERATOR, decisions={"tiny-000000": theirs}))
    stands = record_unless_newer(path, GENERATOR, "tiny-000000", ("drop", "mine"), seen)
    assert (stands.decision, stands.note) == (("drop", "mine") if taken else ("keep", "theirs"))
    assert load_decisions(path, GENERATOR).decisions == {"tiny-000000": stands}


def test_options_typed_otherwise_are_the_same_heads(tmp_path):
    """A default that is spelt out changes no head, so the decisions hold; the fingerprint is what counts."""
    path = tmp_path / "decisions.json"
    record(path, GENERATOR, {"tiny-000000": "drop"})
    spelt = GeneratorId(name="tiny", fingerprint="tiny-1", options={"delay_s": 0.0})
    record(path, spelt, {"tiny-000001": "keep"})
    for generator in (GENERATOR, spelt):
        assert load_decisions(path, generator).rulings() == {"tiny-000000": "drop", "tiny-000001": "keep"}


def test_recording_leaves_the_others_alone(tmp_path):
    """A decision is added to those that are in the file, whoever wrote them meanwhile."""
    path = tmp_path / "decisions.json"
    record(path, GENERATOR, {"tiny-000000": "drop"}, note="two noses")
    record(path, GENERATOR, {"tiny-000001": "keep"})
    mark_reviewed(path, GENERATOR, "abc")
    found = load_decisions(path, GENERATOR)
    assert found.rulings() == {"tiny-000000": "drop", "tiny-000001": "keep"}
    assert found.decisions["tiny-000000"].note == "two noses"
    assert set(found.reviewed) == {"abc"}
    assert [each.name for each in tmp_path.iterdir()] == ["decisions.json"]


def _record_many(path: Path, first: int) -> None:
    for seed in range(first, first + 20):
        record(path, GENERATOR, {f"tiny-{seed:06d}": "drop"})


def test_two_processes_lose_none_of_each_others(tmp_path):
    """Four writers at once: all eighty decisions are in the file."""
    context = multiprocessing.get_context("fork")
    path = tmp_path / "decisions.json"
    writers = [context.Process(target=_record_many, args=(path, 20 * number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(load_decisions(path, GENERATOR).rulings()) == 80


def test_no_file_is_no_decision(tmp_path):
    """Where a file must be there, its absence is told."""
    assert load_decisions(tmp_path / "none.json", GENERATOR).rulings() == {}
    with pytest.raises(ConfigError, match=r"none\.json: expected a decisions file, found No such file"):
        read_decisions(tmp_path / "none.json", GENERATOR)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"generator": {"name": "tiny", "fingerprint": "tiny-2"}},
            r"of tiny \(tiny-1\), found those of tiny \(tiny-2\)",
        ),
        (
            {"generator": {"name": "tiny", "fingerprint": "tiny-2", "options": {"psi": 0.5}}},
            r"with \{\"psi\": 0\.5\}",
        ),
        ({"generator": {"name": "large", "fingerprint": "tiny-1"}}, r"found those of large \(tiny-1\)"),
        ({"schema_version": 2}, "schema version 2, this software reads up to 1"),
        ({"decisions": {"a": {"decision": "maybe", "time": "2026-11-22T00:00:00Z"}}}, r"decisions\.a\.decision"),
        ({"decisions": {"a": {"decision": "keep", "time": "2026-11-22T00:00:00"}}}, r"decisions\.a\.time"),
        ({"verdicts": {}}, "verdicts"),
    ],
    ids=["fingerprint", "options", "name", "version", "choice", "no time zone", "stranger"],
)
def test_files_that_are_not_ours_are_refused(tmp_path, change, message):
    """In one line that names the file and what is wrong; the file stays as it is, also when a decision is added."""
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps({"schema_version": 1, "generator": {"name": "tiny", "fingerprint": "tiny-1"}} | change))
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=message) as caught:
        load_decisions(path, GENERATOR)
    assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match=message):
        record(path, GENERATOR, {"tiny-000000": "drop"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_decisions_file_is_refused(tmp_path, data):
    """An empty or cut file is told, not taken for an empty one: it may have been the only copy."""
    (tmp_path / "decisions.json").write_bytes(data)
    with pytest.raises(ConfigError, match="mend the file or move it away"):
        load_decisions(tmp_path / "decisions.json", GENERATOR)


def test_a_folder_in_its_place_is_told(tmp_path):
    """A path that can't be a file is the user's mistake, not a crash."""
    with pytest.raises((ConfigError, StorageUnavailable), match=str(tmp_path)):
        load_decisions(tmp_path, GENERATOR)


def test_heads_get_their_decisions_and_strangers_are_named(tmp_path):
    """A retraction is no decision; an id that is not asked for is told."""
    path = tmp_path / "decisions.json"
    found = record(path, GENERATOR, {"tiny-000000": "drop", "tiny-000001": "none", "tiny-000009": "keep"})
    assert [head.decision for head in with_decisions(HEADS, found)] == ["drop", None, None]
    assert unknown_ids(HEADS, found) == ["tiny-000009"]


def test_reviewed_is_of_exactly_these_verdicts(tmp_path):
    """The mark holds for the verdicts that were seen, in any order; all heads decided is as good."""
    path = tmp_path / "decisions.json"
    sound, bad = (Verdict(keep=keep, reasons=() if keep else ("holes",), scores={}) for keep in (True, False))
    seen = {"a": sound, "b": bad}
    marked = mark_reviewed(path, GENERATOR, review_digest(seen))
    assert is_reviewed(seen, marked)
    assert is_reviewed(dict(reversed(seen.items())), marked)
    assert not is_reviewed({"a": bad, "b": bad}, marked)
    assert not is_reviewed({**seen, "c": sound}, marked)
    assert is_reviewed({"c": sound}, record(path, GENERATOR, {"c": "keep"}))
