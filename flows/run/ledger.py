"""Counts of a run's stages for its summary. Thread-safe."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StageCount:
    """Artifacts of one stage; `seconds` is the time spent in it, summed over all workers."""

    made: int = 0
    reused: int = 0
    seconds: float = 0.0


class Ledger:
    """Counts by stage."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, StageCount] = {}

    def add(self, stage: str, *, made: int = 0, reused: int = 0, seconds: float = 0.0) -> None:
        """Add to a stage's counts; `stages` lists them in the order of their first count."""
        with self._lock:
            old = self._stages.get(stage, StageCount())
            self._stages[stage] = replace(
                old, made=old.made + made, reused=old.reused + reused, seconds=old.seconds + seconds
            )

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the duration of the block to the stage."""
        start = monotonic()
        try:
            yield
        finally:
            self.add(stage, seconds=monotonic() - start)

    def merge(self, counts: Mapping[str, StageCount]) -> None:
        """Add the counts of another ledger."""
        for stage, count in counts.items():
            self.add(stage, made=count.made, reused=count.reused, seconds=count.seconds)

    def counts(self) -> dict[str, StageCount]:
        """The counts so far by stage."""
        with self._lock:
            return dict(self._stages)

    def stages(self) -> dict[str, dict[str, Any]]:
        """{stage: {made, reused, seconds}}"""
        with self._lock:
            return {
                name: {"made": count.made, "reused": count.reused, "seconds": round(count.seconds, 2)}
                for name, count in self._stages.items()
            }
