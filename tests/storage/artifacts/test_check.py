"""The check of a whole store: what it finds, and that it goes on where it was interrupted."""

from pathlib import Path

import pytest

from spinmeround.storage.artifacts import ArtifactStore, check_store, set_aside_damaged
from tests.support.artifacts import damage, put


def test_every_kind_of_damage_is_found_and_moved_aside(any_store: ArtifactStore) -> None:
    """A changed byte, another size, a broken manifest and a stranger are told by artifact; the rest is whole."""
    keys = [put(any_store, "mesh", number) for number in range(6)]
    damage(any_store, "mesh", keys[0], data=b"mesh X")
    damage(any_store, "mesh", keys[1], data=b"")
    damage(any_store, "mesh", keys[2], name="stranger")
    any_store.backend.blobs.put(f"mesh/{keys[3][:2]}/{keys[3]}/manifest.json", b"{")
    found = check_store(any_store)
    assert {problem.key for problem in found.problems} == set(keys[:4])
    assert (found.artifacts, found.resumed) == (6, 0)
    assert all(any_store.has("mesh", key) for key in keys)  # a check moves nothing
    told = {problem.key: str(problem) for problem in found.problems}
    assert "SHA-256" in told[keys[0]]
    assert "expected 6 bytes, found 0" in told[keys[1]]
    assert "stranger is not in the manifest" in told[keys[2]]
    assert len(set_aside_damaged(any_store, found.problems)) == 4
    assert [any_store.has("mesh", key) for key in keys] == [False] * 4 + [True] * 2
    assert [put(any_store, "mesh", number) for number in range(4)] == keys[:4]
    assert check_store(any_store).problems == ()


def test_newer_artifacts_are_told_and_left_alone(any_store: ArtifactStore) -> None:
    """What a newer version of the software wrote is no damage."""
    key = put(any_store, "mesh", 1)
    home = f"mesh/{key[:2]}/{key}/manifest.json"
    data = any_store.backend.blobs.get(home)
    assert data is not None
    any_store.backend.blobs.put(
        home,
        data.replace(b'"schema_version": 2', b'"schema_version":99').replace(
            b'"schema_version":2', b'"schema_version":99'
        ),
    )
    found = check_store(any_store)
    assert [(problem.damaged, "newer version" in str(problem)) for problem in found.problems] == [(False, True)]
    assert set_aside_damaged(any_store, found.problems) == []
    assert any_store.has("mesh", key)


def test_an_interrupted_check_goes_on(any_store: ArtifactStore) -> None:
    """What was found whole is not read again, what was damaged is told again, and what was remade is checked."""
    keys = sorted(put(any_store, "mesh", number) for number in range(8))
    damage(any_store, "mesh", keys[1])
    done = 0

    def interrupt(count: int) -> None:
        nonlocal done
        done += count
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_store(any_store, report=interrupt)
    begun: list[int] = []
    found = check_store(any_store, begin=begun.append)
    assert (found.resumed, begun) == (4, [4])
    assert [problem.key for problem in found.problems] == [keys[1]]
    assert check_store(any_store).resumed == 0  # the journal went with the end


def test_a_torn_journal_and_a_fresh_start(store: ArtifactStore) -> None:
    """A line that a kill cut short counts for nothing; `fresh` forgets all lines."""
    keys = [put(store, "mesh", number) for number in range(3)]
    entries = {entry.key: entry.modified for entry in store.backend.entries()}
    journal = Path(store.root) / "verify.journal"
    lines = [f"mesh/{key} {entries[key]:.6f}" for key in keys]
    journal.write_text(f"{lines[0]}\n{lines[1][:-1]}")
    assert check_store(store).resumed == 1
    journal.write_text("".join(f"{line}\n" for line in lines))
    damage(store, "mesh", keys[0])
    assert len(check_store(store, fresh=True).problems) == 1
