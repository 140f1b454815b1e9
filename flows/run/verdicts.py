"""Verdicts of screen and review on the heads of a run, read from the store."""

from collections.abc import Mapping
from dataclasses import dataclass

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.tasks.heads.review import Review, load_review, review
from spinmeround.tasks.heads.screen import Verdict, load_verdict
from spinmeround.tasks.stage import GATE, Head


@dataclass(frozen=True, kw_only=True, slots=True)
class FinalVerdict:
    """The part of a head's review that a run keeps in memory for every head."""

    keep: bool
    reasons: tuple[str, ...]
    kept_by_review: bool


class Verdicts:
    """Reads verdicts. `keys` are a head's artifact keys by stage."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._final: dict[str, FinalVerdict] = {}

    def screen(self, keys: Mapping[str, str]) -> Verdict | None:
        """The screen's verdict on a head; None if the head is not screened yet."""
        key = keys["screen"]
        if not self._store.has("screen", key):
            return None
        return load_verdict(self._store.verify("screen", key).path)

    def review(self, head: Head, keys: Mapping[str, str]) -> Review | None:
        """The verdict of the review, derived from the screen's if only that exists; None before that."""
        if self._store.has(GATE, keys[GATE]):
            return load_review(self._store.verify(GATE, keys[GATE]).path)
        screened = self.screen(keys)
        return None if screened is None else review(screened, head.decision)

    def final(self, head: Head, keys: Mapping[str, str]) -> FinalVerdict | None:
        """The verdict of the review, read once per run, because the content under a key never changes."""
        key = keys[GATE]
        if key not in self._final:
            if (found := self.review(head, keys)) is None:
                return None
            self._final[key] = FinalVerdict(keep=found.keep, reasons=found.reasons, kept_by_review=found.kept_by_review)
        return self._final[key]
