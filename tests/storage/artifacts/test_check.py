"""The check of a store: what it finds, and that it resumes after an interruption."""

from pathlib import Path

import pytest

from spinmeround.storage.artifacts import ArtifactStore, check_store, registered_runs, set_aside_damaged
from tests.support.artifacts import damage, put


def test_every_kind_of_damage_is_found_and_moved_aside(any_store: ArtifactStore) -> None:
    """A changed byte, a wrong size, a broken manifest and an extra file are reported; the rest is intact."""
    keys = [put(any_store, "mesh", number) for number in range(6)]
    damage(any_store, "mesh", keys[0], data=b"mesh X")
    damage(any_store, "mesh", keys[1], data=b"")
    damage(any_store, "mesh", keys[2], name="extra")
    any_store.backend.blobs.put(f"mesh/{keys[3][:2]}/{keys[3]}/manifest.json", b"{")
    found = check_store(any_store)
    assert {problem.key for problem in found.problems} == set(keys[:4])
    assert (found.artifacts, found.resumed) == (6, 0)
    assert all(any_store.has("mesh", key) for key in keys)  # a check moves nothing
    messages = {problem.key: str(problem) for problem in found.problems}
    assert "SHA-256" in messages[keys[0]]
    assert "expected 6 bytes, found 0" in messages[keys[1]]
    assert "extra is not in the manifest" in messages[keys[2]]
    assert len(set_aside_damaged(any_store, found.problems)) == 4
    assert [any_store.has("mesh", key) for key in keys] == [False] * 4 + [True] * 2
    assert [put(any_store, "mesh", number) for number in range(4)] == keys[:4]
    assert check_store(any_store).problems == ()


def test_litter_is_no_damage(store: ArtifactStore) -> None:
    """What a Finder or an NFS client leaves in a store neither damages an artifact nor breaks the records of runs."""
    key = put(store, "mesh", 1)
    home = Path(store.root) / "mesh" / key[:2] / key
    (Path(store.root) / "runs").mkdir()
    for place in (home / ".DS_Store", home / "._a.bin", home / ".nfs0001", Path(store.root) / "runs" / "._r.json"):
        place.write_bytes(b"litter")
    assert check_store(store).problems == ()
    assert store.verify("mesh", key).path == home
    assert registered_runs(store) == []


def test_newer_artifacts_are_reported_and_kept(any_store: ArtifactStore) -> None:
    """An artifact of a newer version of the software is not damaged."""
    key = put(any_store, "mesh", 1)
    home = f"mesh/{key[:2]}/{key}/manifest.json"
    data = any_store.backend.blobs.get(home)
    assert data is not None
    any_store.backend.blobs.put(
        home,
        data.replace(b'"schema_version": 3', b'"schema_version":99').replace(
            b'"schema_version":3', b'"schema_version":99'
        ),
    )
    found = check_store(any_store)
    assert [(problem.damaged, "newer version" in str(problem)) for problem in found.problems] == [(False, True)]
    assert set_aside_damaged(any_store, found.problems) == []
    assert any_store.has("mesh", key)


def test_an_interrupted_check_resumes(any_store: ArtifactStore) -> None:
    """A resumed check reads no intact artifact again and reports the damaged ones again."""
    keys = sorted(put(any_store, "mesh", number) for number in range(8))
    damage(any_store, "mesh", keys[1])

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_store(any_store, on_progress=interrupt)
    calls: list[tuple[int, int]] = []
    found = check_store(any_store, on_progress=lambda done, total: calls.append((done, total)))
    assert (found.resumed, calls) == (4, [(1, 4), (2, 4), (3, 4), (4, 4)])
    assert [problem.key for problem in found.problems] == [keys[1]]
    assert check_store(any_store).resumed == 0  # a completed check removes its journal


def test_a_torn_journal_and_a_fresh_start(store: ArtifactStore) -> None:
    """A line that a kill cut short is ignored; `fresh` ignores all lines."""
    keys = [put(store, "mesh", number) for number in range(3)]
    entries = {entry.key: entry.modified for entry in store.backend.entries()}
    journal = Path(store.root) / "verify.journal"
    lines = [f"mesh/{key} {entries[key]:.6f}" for key in keys]
    journal.write_text(f"{lines[0]}\n{lines[1][:-1]}")
    assert check_store(store).resumed == 1
    journal.write_text("".join(f"{line}\n" for line in lines))
    damage(store, "mesh", keys[0])
    assert len(check_store(store, fresh=True).problems) == 1
