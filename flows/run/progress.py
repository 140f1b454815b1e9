"""Progress of a run: bars on a terminal, plain lines otherwise."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


class Tally:
    """What is complete of one stage, and how fast it goes."""

    def __init__(self, total: int, done: int = 0) -> None:
        self.total, self.done = total, done
        self._began, self._before = time.monotonic(), done

    def add(self, by: int) -> int:
        """Add to the completed part; returns what was complete before."""
        before, self.done = self.done, self.done + by
        if time.monotonic() - self._began < _AT_ONCE_S:  # complete when the stage was started
            self._before = self.done
        return before

    @property
    def pace(self) -> str:
        """Rate since the start of the stage and the time that remains at it; nothing before there is a rate."""
        if self.done == self._before:
            return ""
        rate = (self.done - self._before) / max(time.monotonic() - self._began, 1e-9)
        left = f", {timedelta(seconds=round((self.total - self.done) / rate))} left" if self.done < self.total else ""
        return f"{rate:.3g}/s{left}"


class PlainProgress:
    """Lines on standard error, at most one per tenth of a stage."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, Tally] = {}

    def stage(self, name: str, total: int, done: int = 0) -> None:
        with self._lock:
            self._stages[name] = Tally(total, done)

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        with self._lock:
            found = self._stages[name]
            before, total = found.add(by), found.total
            if found.done >= total or found.done * 10 // total > before * 10 // total:
                parts = [f"{name}: {found.done}/{total}", found.pace, note]
                self._write("  ".join(part for part in parts if part))

    def say(self, line: str) -> None:
        with self._lock:
            self._write(line)

    def _write(self, line: str) -> None:
        with suppress(OSError, ValueError):  # a pipe that nobody reads any more, or a closed stream
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
        with suppress(OSError, ValueError):
            self._bars.stop()

    def stage(self, name: str, total: int, done: int = 0) -> None:
        if name in self._tasks:
            self._bars.reset(self._tasks[name], total=total, completed=done)
        else:
            self._tasks[name] = self._bars.add_task(name, total=total, completed=done, note="", rate="")

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        id = self._tasks[name]
        with suppress(OSError, ValueError):
            self._bars.update(id, advance=by)
            if speed := self._bars.tasks[self._bars.task_ids.index(id)].speed:
                self._bars.update(id, rate=f"{speed:.3g}/s")
            if note:
                self._bars.update(id, note=note)

    def say(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._bars.console.print(line, highlight=False, markup=False)


class BothProgress:
    """Passes the progress on to several others."""

    def __init__(self, *shown: Progress) -> None:
        self._shown = shown

    def stage(self, name: str, total: int, done: int = 0) -> None:
        for each in self._shown:
            each.stage(name, total, done)

    def advance(self, name: str, by: int = 1, note: str = "") -> None:
        for each in self._shown:
            each.advance(name, by, note)

    def say(self, line: str) -> None:
        for each in self._shown:
            each.say(line)


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show the progress of the block: bars on a terminal, lines otherwise."""
    if sys.stderr.isatty():
        with BarProgress() as bars, set_progress(bars):
            yield bars
    else:
        with set_progress(PlainProgress()) as lines:
            yield lines


@contextmanager
def set_progress(progress: Progress) -> Iterator[Progress]:
    """Make this the progress of the active run for the duration of the block."""
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
