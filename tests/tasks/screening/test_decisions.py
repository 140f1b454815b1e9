"""The decisions file: merging, concurrent writes, and refusal of files of other generators."""

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
    DecisionEntry,
    Decisions,
    GeneratorId,
    describe_generator,
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

pytestmark = pytest.mark.fast
GENERATOR = GeneratorId(name="tiny", fingerprint="tiny-1")
START = datetime(2026, 11, 22, tzinfo=UTC)
HEADS = [Head(id=f"tiny-{seed:06d}", seed=seed) for seed in range(3)]

choices = st.sampled_from(["keep", "drop", "none"])
times = st.integers(0, 5).map(lambda seconds: START + timedelta(seconds=seconds))
decisions = st.builds(DecisionEntry, decision=choices, note=st.just(""), time=times)
files = st.builds(
    Decisions,
    generator=st.just(GENERATOR),
    decisions=st.dictionaries(st.sampled_from([head.id for head in HEADS]), decisions),
)


@given(files, files, files)
def test_merge_keeps_the_newest_decision_of_each_head(first: Decisions, second: Decisions, third: Decisions):
    """A merge has every head of both files, and is idempotent and associative."""
    both = first.merged(second)
    for name in first.decisions.keys() | second.decisions.keys():
        newest = max(file.decisions[name].time for file in (first, second) if name in file.decisions)
        assert both.decisions[name].time == newest
    assert both.merged(second) == both == both.merged(first)
    assert both.merged(third) == first.merged(second.merged(third))


@settings(max_examples=20, deadline=None)
@given(files)
def test_written_decisions_are_read_back(tmp_path_factory, file: Decisions):
    """A round trip keeps notes, times and retractions."""
    path = tmp_path_factory.mktemp("file") / "decisions.json"
    assert merge_decisions(path, file) == file == load_decisions(path, GENERATOR)


def test_a_new_decision_is_the_newest(tmp_path):
    """Also if the last decision has a time in the future; merging an older file does not undo a retraction."""
    path = tmp_path / "decisions.json"
    ahead = DecisionEntry(decision="keep", time=datetime.now(UTC) + timedelta(days=1))
    old = Decisions(generator=GENERATOR, decisions={"tiny-000000": ahead})
    merge_decisions(path, old)
    record(path, GENERATOR, {"tiny-000000": "none"})
    assert merge_decisions(path, old).active() == {}


EARLIER, LATER = START, START + timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("current", "seen", "taken"),
    [
        (None, None, True),
        (None, EARLIER, True),
        (EARLIER, EARLIER, True),
        (EARLIER, LATER, True),
        (EARLIER, None, False),
        (LATER, EARLIER, False),
    ],
    ids=["no decision", "decision removed", "seen", "older than seen", "not seen", "newer than seen"],
)
def test_an_unseen_decision_is_not_overwritten(tmp_path, current, seen, taken):
    """A decision is saved unless the file has a newer one than the person saw; the result is that in the file."""
    path = tmp_path / "decisions.json"
    if current is not None:
        theirs = DecisionEntry(decision="keep", note="theirs", time=current)
        merge_decisions(path, Decisions(generator=GENERATOR, decisions={"tiny-000000": theirs}))
    saved = record_unless_newer(path, GENERATOR, "tiny-000000", ("drop", "mine"), seen)
    assert (saved.decision, saved.note) == (("drop", "mine") if taken else ("keep", "theirs"))
    assert load_decisions(path, GENERATOR).decisions == {"tiny-000000": saved}


def test_explicit_default_options_are_the_same_generator(tmp_path):
    """The fingerprint identifies the generator, so an explicit default keeps the decisions valid."""
    path = tmp_path / "decisions.json"
    record(path, GENERATOR, {"tiny-000000": "drop"})
    explicit = GeneratorId(name="tiny", fingerprint="tiny-1", options={"delay_s": 0.0})
    record(path, explicit, {"tiny-000001": "keep"})
    for generator in (GENERATOR, explicit):
        assert load_decisions(path, generator).active() == {"tiny-000000": "drop", "tiny-000001": "keep"}


def test_record_keeps_other_decisions(tmp_path):
    """A new decision is added to those in the file, and leaves no other file in the folder."""
    path = tmp_path / "decisions.json"
    record(path, GENERATOR, {"tiny-000000": "drop"}, note="two noses")
    record(path, GENERATOR, {"tiny-000001": "keep"})
    mark_reviewed(path, GENERATOR, "abc")
    found = load_decisions(path, GENERATOR)
    assert found.active() == {"tiny-000000": "drop", "tiny-000001": "keep"}
    assert found.decisions["tiny-000000"].note == "two noses"
    assert set(found.reviewed) == {"abc"}
    assert [each.name for each in tmp_path.iterdir()] == ["decisions.json"]


def _record_many(path: Path, first: int) -> None:
    for seed in range(first, first + 20):
        record(path, GENERATOR, {f"tiny-{seed:06d}": "drop"})


def test_concurrent_writers_lose_nothing(tmp_path):
    """Four processes write 20 decisions each; all 80 are in the file."""
    context = multiprocessing.get_context("fork")
    path = tmp_path / "decisions.json"
    writers = [context.Process(target=_record_many, args=(path, 20 * number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert len(load_decisions(path, GENERATOR).active()) == 80


def test_missing_file(tmp_path):
    """`load_decisions` returns no decisions, `read_decisions` raises."""
    assert load_decisions(tmp_path / "none.json", GENERATOR).active() == {}
    with pytest.raises(ConfigError, match=r"none\.json: expected a decisions file, found No such file"):
        read_decisions(tmp_path / "none.json", GENERATOR)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"generator": {"name": "tiny", "fingerprint": "tiny-2"}},
            r"of tiny \(tiny-1\), found heads of tiny \(tiny-2\)",
        ),
        (
            {"generator": {"name": "tiny", "fingerprint": "tiny-2", "options": {"psi": 0.5}}},
            r"with \{\"psi\": 0\.5\}",
        ),
        ({"generator": {"name": "large", "fingerprint": "tiny-1"}}, r"found heads of large \(tiny-1\)"),
        ({"schema_version": 2}, "schema version 2, this software reads up to 1"),
        ({"decisions": {"a": {"decision": "maybe", "time": "2026-11-22T00:00:00Z"}}}, r"decisions\.a\.decision"),
        ({"decisions": {"a": {"decision": "keep", "time": "2026-11-22T00:00:00"}}}, r"decisions\.a\.time"),
        (
            {"decisions": {"a": {"decision": "keep", "time": "9999-12-31T23:59:59.9999Z"}}},
            r"decisions\.a\.time: .*less",
        ),
        (
            {"decisions": {"a": {"decision": "keep", "time": "0001-01-01T00:00:00+14:00"}}},
            r"decisions\.a\.time: .*great",
        ),
        ({"reviewed": {"abc": "9999-12-31T23:59:59.9999Z"}}, r"reviewed\.abc: .*less than"),
        (
            {"generator": {"name": "tiny", "fingerprint": "tiny-1", "options": {"psi": [float("nan")]}}},
            r"generator\.options: expected finite numbers",
        ),
        ({"verdicts": {}}, "verdicts"),
    ],
    ids=[
        *("fingerprint", "options", "name", "version", "choice", "no time zone", "last day", "first day"),
        *("review on the last day", "NaN", "unknown field"),
    ],
)
def test_invalid_files_are_refused(tmp_path, change, message):
    """The error names the file and the problem; neither loading nor recording changes the file."""
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
def test_damaged_files_are_refused(tmp_path, data):
    """An empty or truncated file is an error, not an empty set of decisions: it may be the only copy."""
    (tmp_path / "decisions.json").write_bytes(data)
    with pytest.raises(ConfigError, match="repair the file or move it away"):
        load_decisions(tmp_path / "decisions.json", GENERATOR)


def test_a_folder_is_refused(tmp_path):
    """A path that is a folder raises an error that names it."""
    with pytest.raises((ConfigError, StorageUnavailable), match=str(tmp_path)):
        load_decisions(tmp_path, GENERATOR)


@pytest.mark.parametrize("name", ["a\0b", "file/x.json"], ids=["null byte", "below a file"])
def test_a_path_that_is_no_file_s_is_refused(tmp_path, name):
    """It does not count as a file that does not exist."""
    (tmp_path / "file").write_text("{}")
    with pytest.raises(ConfigError, match=r"^decisions .*: expected a file, found .*; name another path"):
        load_decisions(tmp_path / name, GENERATOR)


def test_heads_get_their_decisions_and_unknown_ids_are_listed(tmp_path):
    """A retraction is no decision; ids that are not among the heads are listed."""
    path = tmp_path / "decisions.json"
    found = record(path, GENERATOR, {"tiny-000000": "drop", "tiny-000001": "none", "tiny-000009": "keep"})
    assert [head.decision for head in with_decisions(HEADS, found)] == ["drop", None, None]
    assert unknown_ids(HEADS, found) == ["tiny-000009"]


def test_reviewed_applies_to_exactly_these_verdicts(tmp_path):
    """The mark applies to the accepted verdicts in any order; decisions on all heads count as a review, too."""
    path = tmp_path / "decisions.json"
    kept, dropped = (Verdict(keep=keep, reasons=() if keep else ("holes",), scores={}) for keep in (True, False))
    accepted = {"a": kept, "b": dropped}
    marked = mark_reviewed(path, GENERATOR, review_digest(accepted))
    assert is_reviewed(accepted, marked)
    assert is_reviewed(dict(reversed(accepted.items())), marked)
    assert not is_reviewed({"a": dropped, "b": dropped}, marked)
    assert not is_reviewed({**accepted, "c": kept}, marked)
    assert is_reviewed({"c": kept}, record(path, GENERATOR, {"c": "keep"}))


def test_a_long_name_of_a_generator_is_shortened():
    """The name comes from a file, and the error stays short."""
    assert describe_generator(GeneratorId(name="x" * 5000, fingerprint="1")) == "x" * 300 + "..."
