"""The progress of a run in the UI: an artifact per stage with its rate and the time that remains."""

import re
import threading
import time
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from spinmeround.flows.run.progress import Tally
from spinmeround.flows.run.shown import Shown

EVERY_S = 5.0
"""Least time between two changes of an artifact, in seconds."""


@dataclass
class _Stage:
    tally: Tally
    shown_at: float = -EVERY_S
    ids: list[UUID] = field(default_factory=list)


class ProgressArtifacts:
    """One progress artifact per stage, of the flow run in which it is made."""

    def __init__(self, shown: Shown) -> None:
        self._shown, self._context = shown, copy_context()
        self._lock = threading.Lock()
        self._stages: dict[str, _Stage] = {}

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            old = self._stages.get(name)
            self._stages[name] = _Stage(Tally(total, done), ids=old.ids if old else [])
            self._send(name, self._stages[name], "")

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        with self._lock:
            found = self._stages[name]
            found.tally.add(by)
            self._send(name, found, note)

    def say(self, line: str) -> None:
        """Lines are for the terminal; in the UI they are in the log."""

    def _send(self, name: str, stage: _Stage, note: str) -> None:
        now, tally = time.monotonic(), stage.tally
        if now - stage.shown_at < EVERY_S and tally.done < tally.total:
            return
        stage.shown_at = now
        parts = [f"{name}: {tally.done} of {tally.total}", tally.pace, note]
        text = ", ".join(part for part in parts if part)
        percent = 100 * tally.done / tally.total
        self._shown.show(_update, name, stage.ids, percent, text, context=self._context, instead_of=f"progress {name}")


def _update(name: str, ids: list[UUID], percent: float, text: str) -> None:
    if ids:
        update_progress_artifact(ids[0], percent, text)
    else:
        key = f"progress-{re.sub('[^a-z0-9]+', '-', name.lower())}"
        ids.append(cast(UUID, create_progress_artifact(percent, key=key, description=text)))
