"""Checks every payload of a store against its manifest; reads all bytes, several artifacts in parallel, and resumes.

A journal, `verify.journal` in the store's folder (next to the local copies of an object store), lists the intact
artifacts with the times of their manifests. An interrupted check resumes from it; a completed one removes it.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from spinmeround.storage.artifacts.backend import Entry
from spinmeround.storage.artifacts.store import ArtifactStore, is_url
from spinmeround.storage.artifacts.survey import blocks
from spinmeround.storage.errors import StorageUnavailable, StoreError
from spinmeround.storage.files import make_folder

_OBJECTS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class ArtifactProblem:
    """An artifact with problems `what`; a `damaged` one can be moved aside, others need newer software."""

    stage: str
    key: str
    what: tuple[str, ...]
    damaged: bool = True

    def __str__(self) -> str:
        more = f" (and {len(self.what) - 3} more)" if len(self.what) > 3 else ""
        return f"{self.stage}/{self.key[:12]}: {'; '.join(self.what[:3])}{more}"


@dataclass(frozen=True, kw_only=True)
class StoreCheck:
    """Result of a check; `resumed` counts the artifacts that were found intact before an interruption."""

    artifacts: int
    resumed: int
    problems: tuple[ArtifactProblem, ...]


def check_store(
    store: ArtifactStore,
    *,
    fresh: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> StoreCheck:
    """Check all artifacts that no interrupted check has checked; `fresh` checks all of them again.

    Changes nothing but the journal.
    """
    journal = Journal(store.backend.scratch.parent / "verify.journal")
    if fresh:
        journal.remove()
    entries, intact = list(store.backend.entries()), journal.read()
    waiting = [entry for entry in entries if _line(entry) not in intact]
    done = 0
    problems: list[ArtifactProblem] = []
    at_once = _OBJECTS_AT_ONCE if is_url(store.root) else os.cpu_count() or 1
    with ThreadPoolExecutor(at_once) as pool:  # hashing releases the GIL
        for block in blocks(waiting):
            for entry, problem in zip(block, pool.map(lambda entry: _check(store, entry), block), strict=True):
                if problem is None:
                    journal.add(_line(entry))
                else:
                    problems.append(problem)
                done += 1
                on_progress(done, len(waiting))
    journal.remove()
    return StoreCheck(artifacts=len(entries), resumed=len(entries) - len(waiting), problems=tuple(problems))


def set_aside_damaged(store: ArtifactStore, problems: Sequence[ArtifactProblem]) -> list[str]:
    """Move the damaged artifacts to `corrupt`, so that the next build remakes them; returns their new places."""
    return [store.set_aside(problem.stage, problem.key) for problem in problems if problem.damaged]


class Journal:
    """Lines of a text file; a line without its newline, cut short by a kill, is ignored."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> set[str]:
        """All complete lines."""
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return set()
        return set(text[: text.rfind("\n") + 1].split("\n"))

    def add(self, line: str) -> None:
        """Append a line."""
        make_folder(self._path.parent, flush=False)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)


def _check(store: ArtifactStore, entry: Entry) -> ArtifactProblem | None:
    try:
        found = store.examine(entry.stage, entry.key)
    except StorageUnavailable:
        raise
    except StoreError as error:
        if not store.has(entry.stage, entry.key):
            return None  # removed in the meantime
        return ArtifactProblem(stage=entry.stage, key=entry.key, what=(str(error),), damaged=False)
    except FileNotFoundError as error:
        found = [f"{error.filename} vanished during the check"]
    if not found or not store.has(entry.stage, entry.key):
        return None
    return ArtifactProblem(stage=entry.stage, key=entry.key, what=tuple(found))


def _line(entry: Entry) -> str:
    return f"{entry.stage}/{entry.key} {entry.modified:.6f}"
