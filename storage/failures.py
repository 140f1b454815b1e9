"""Heads that could not be made: why, how often it was tried. A rerun leaves them out until they are cleared."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.files import owned_folder, write_atomic


class Failure(BaseModel):
    """One artifact that failed for good: `subject` is the head's id, `reason` a line for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    subject: str
    reason: str
    traceback: str
    attempts: int = Field(ge=1)
    created: str


class FailureLog:
    """One JSON file a failure in `folder`; `scratch` takes the temp files (same file system)."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self._folder = folder
        self._scratch = scratch

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
        with owned_folder(self._scratch, f"failure-{stage}") as scratch:
            write_atomic(self._path(stage, key), failure.model_dump_json(indent=1).encode(), scratch=scratch)
        return failure

    def get(self, stage: str, key: str) -> Failure | None:
        return _read(self._path(stage, key))

    def all(self) -> list[Failure]:
        """All failures, by stage and subject. An unreadable record counts for nothing: that head is tried again."""
        found = (_read(path) for path in self._folder.glob("*/*.json"))
        return sorted((each for each in found if each is not None), key=lambda each: (each.stage, each.subject))

    def forget(self, stage: str, key: str) -> None:
        """Remove the record of this failure, if there is one."""
        self._path(stage, key).unlink(missing_ok=True)

    def _path(self, stage: str, key: str) -> Path:
        return self._folder / stage / f"{key}.json"


def _read(path: Path) -> Failure | None:
    try:
        return Failure.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
