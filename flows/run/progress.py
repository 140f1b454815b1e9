"""Progress of a run: bars on a terminal, plain lines otherwise."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import TaskID


_AT_ONCE_S = 0.01


class Progress(Protocol):
    """Receives the progress of each stage from the flows; a stage counts heads or steps."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Start a stage of `total` heads or steps, or start it again, of which `done` were complete before."""

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        """Add to the completed part of a stage; `note` is shown next to it, such as the current loss."""

    def say(self, line: str) -> None:
        """Show a message of one line."""


class PlainProgress:
    """Lines on standard error, at most one per tenth of a stage."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._began: dict[str, tuple[float, int]] = {}

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._totals[name], self._done[name] = total, done
            self._began[name] = (time.monotonic(), done)

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        with self._lock:
            total, before = self._totals[name], self._done[name]
            self._done[name] = now = before + by
            if time.monotonic() - self._began[name][0] < _AT_ONCE_S:  # complete when the stage was started
                self._began[name] = (self._began[name][0], now)
            if now >= total or now * 10 // total > before * 10 // total:
                parts = [f"{name}: {now}/{total}", self._pace(name, now, total), note]
                self._write("  ".join(part for part in parts if part))

    def say(self, line: str) -> None:
        with self._lock:
            self._write(line)

    def _pace(self, name: str, now: int, total: int) -> str:
        """Rate since the start of the stage and the time that remains at it; nothing before there is a rate."""
        began, before = self._began[name]
        if now == before:
            return ""
        rate = (now - before) / max(time.monotonic() - began, 1e-9)
        remaining = f", {timedelta(seconds=round((total - now) / rate))} left" if now < total else ""
        return f"{rate:.3g}/s{remaining}"

    def _write(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class BarProgress:
    """One bar per stage."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            TextColumn("{task.description:>10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            speed_estimate_period=300,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "BarProgress":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        if name in self._tasks:
            self._bars.reset(self._tasks[name], total=total, completed=done)
        else:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done, note="", rate="")

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        id = self._tasks[name]
        self._bars.update(id, advance=by)
        if speed := self._bars.tasks[self._bars.task_ids.index(id)].speed:
            self._bars.update(id, rate=f"{speed:.3g}/s")
        if note:
            self._bars.update(id, note=note)

    def say(self, line: str) -> None:
        self._bars.console.print(line, highlight=False, markup=False)


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show the progress of the block: bars on a terminal, lines otherwise."""
    if sys.stderr.isatty():
        with BarProgress() as bars:
            yield from _set(bars)
    else:
        yield from _set(PlainProgress())


def _set(progress: Progress) -> Iterator[Progress]:
    token = _current.set(progress)
    try:
        yield progress
    finally:
        _current.reset(token)


def progress() -> Progress:
    """The progress of the active run."""
    found = _current.get()
    if found is None:
        found = PlainProgress()
        _current.set(found)
    return found


def stage_progress(name: str) -> Callable[[int, int], None]:
    """A callback `(done, total)` that shows a stage in the progress of the active run, from its first call on."""
    shown: int | None = None

    def on_progress(done: int, total: int) -> None:
        nonlocal shown
        if shown is None:
            progress().stage(name, total)
        progress().advance(name, done - (shown or 0))
        shown = done

    return on_progress
