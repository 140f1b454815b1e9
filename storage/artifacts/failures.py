"""Heads that could not be made: why, how often it was tried. A rerun leaves them out until they are cleared."""

from datetime import UTC, datetime

from pydantic import Field, ValidationError

from spinmeround.storage.artifacts.backend import Blobs
from spinmeround.storage.records import FrozenModel


class Failure(FrozenModel):
    """One artifact that failed for good: `subject` is the head's id, `reason` a line for people."""

    stage: str
    key: str
    subject: str
    reason: str
    traceback: str
    attempts: int = Field(ge=1)
    created: str


class FailureLog:
    """One JSON file a failure, among the small files of a store."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def record(self, stage: str, key: str, *, subject: str, reason: str, traceback: str, attempts: int) -> Failure:
        failure = Failure(
            stage=stage,
            key=key,
            subject=subject,
            reason=reason,
            traceback=traceback,
            attempts=attempts,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._blobs.put(_name(stage, key), failure.model_dump_json(indent=1).encode())
        return failure

    def get(self, stage: str, key: str) -> Failure | None:
        return self._read(_name(stage, key))

    def all(self) -> list[Failure]:
        """All failures, by stage and subject. An unreadable record counts for nothing: that head is tried again."""
        found = (self._read(name) for name in self._blobs.names("failures"))
        return sorted((each for each in found if each is not None), key=lambda each: (each.stage, each.subject))

    def forget(self, stage: str, key: str) -> None:
        """Remove the record of this failure, if there is one."""
        self._blobs.delete(_name(stage, key))

    def _read(self, name: str) -> Failure | None:
        data = self._blobs.get(name)
        try:
            return None if data is None else Failure.model_validate_json(data)
        except ValidationError:
            return None


def _name(stage: str, key: str) -> str:
    return f"failures/{stage}/{key}.json"
