"""Records of failed heads: the reason and the number of attempts. Reruns skip these heads until they are cleared."""

from datetime import UTC, datetime

from pydantic import Field

from spinmeround.storage.artifacts.backend import Blobs
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed


class Failure(FrozenModel):
    """An artifact that failed permanently: `subject` is the id of the head, `reason` one readable line."""

    stage: str
    key: str
    subject: str
    reason: str
    traceback: str
    attempts: int = Field(ge=1)
    created: str


class FailureLog:
    """Failure records of a store, one JSON file each."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def record(self, stage: str, key: str, *, subject: str, reason: str, traceback: str, attempts: int) -> Failure:
        """Record a failure, in place of an earlier one of the same artifact."""
        failure = Failure(
            stage=stage,
            key=key,
            subject=subject,
            reason=reason,
            traceback=traceback,
            attempts=attempts,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._blobs.put(_name(stage, key), sealed_json(failure))
        return failure

    def get(self, stage: str, key: str) -> Failure | None:
        """The recorded failure of this artifact, or None."""
        return self._read(_name(stage, key))

    def all(self) -> list[Failure]:
        """All failures, sorted by stage and subject. Unreadable records are ignored, so their heads are tried again."""
        records = (self._read(name) for name in self._blobs.names("failures"))
        failures = (record for record in records if record is not None)
        return sorted(failures, key=lambda failure: (failure.stage, failure.subject))

    def forget(self, stage: str, key: str) -> None:
        """Remove the record of this failure, if it exists."""
        self._blobs.delete(_name(stage, key))

    def _read(self, name: str) -> Failure | None:
        data = self._blobs.get(name)
        try:
            return None if data is None else Failure.model_validate(unsealed(data))
        except ValueError:  # pydantic's among them
            return None


def _name(stage: str, key: str) -> str:
    return f"failures/{stage}/{key}.json"
