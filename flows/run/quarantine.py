"""Quarantine: heads whose artifacts failed for good, in this build or an earlier one."""

import threading
from collections.abc import Collection, Mapping

from spinmeround.storage.artifacts import ArtifactStore, Failure
from spinmeround.storage.errors import SpinMeRoundError

RETRY_HINT = "After fixing the cause, run 'spinmeround build' again with --retry-quarantined"


class TooManyQuarantined(SpinMeRoundError):
    """More heads are quarantined than `execution.max_quarantined_share` allows; `counted` says how many."""

    def __init__(self, counted: str, reasons: str) -> None:
        super().__init__(f"{counted}: {reasons}. {RETRY_HINT}")
        self.counted = counted


class Quarantine:
    """Failures of one run, by stage and artifact key. Safe to use from the task threads.

    No build retries a quarantined head by itself. `keys` are the run's artifact keys by head id and stage, so that
    a shared store's failures of other runs are not counted; `max_share` is the tolerated share of quarantined heads.
    """

    def __init__(self, store: ArtifactStore, keys: Mapping[str, Mapping[str, str]], max_share: float) -> None:
        self._store, self._keys, self.max_share = store, keys, max_share
        self._lock = threading.Lock()
        self._failures = {
            (failure.stage, failure.key): failure
            for failure in store.failures()
            if keys.get(failure.subject, {}).get(failure.stage) == failure.key
        }

    def __contains__(self, artifact: tuple[str, str]) -> bool:
        """Whether the artifact (stage, key) failed for good."""
        return artifact in self._failures

    def failures(self) -> tuple[Failure, ...]:
        """All failures of this run."""
        with self._lock:
            return tuple(self._failures.values())

    def add(self, stage: str, head_id: str, reason: str, traceback: str, attempts: int) -> Failure:
        """Record that a stage failed for a head after this number of attempts."""
        key = self._keys[head_id][stage]
        failure = self._store.record_failure(stage, key, head_id, " ".join(reason.split()), traceback, attempts)
        self.note(failure)
        return failure

    def note(self, failure: Failure) -> None:
        """Count a failure that is in the store."""
        with self._lock:
            self._failures[failure.stage, failure.key] = failure

    def clear(self, heads: Collection[str] | None = None, stage: str | None = None) -> None:
        """Delete the failures of these heads in this stage, by default all, so that they are retried."""
        with self._lock:
            chosen = [
                each
                for each, failure in self._failures.items()
                if (heads is None or failure.subject in heads) and stage in (None, failure.stage)
            ]
            self._store.clear_failures(chosen)
            for each in chosen:
                del self._failures[each]

    def check(self) -> None:
        """Raises TooManyQuarantined if a larger share of the heads is quarantined than `max_share`."""
        lost = {failure.subject: failure for failure in self.failures()}
        limit = self.max_share * len(self._keys)
        if len(lost) > limit:
            reasons = "; ".join(f"{name} in {each.stage}: {each.reason}" for name, each in list(lost.items())[:3])
            raise TooManyQuarantined(
                f"{len(lost)} of {len(self._keys)} heads are quarantined, execution.max_quarantined_share allows "
                f"{limit:g}",
                reasons,
            )
