"""Damaged files of every kind that people give are read, or refused by an error of this package in a few lines.

No reader hangs or takes much memory. `SPINMEROUND_FUZZ_SECONDS=1200 pytest -m slow tests/fuzz` fuzzes for 20 minutes,
each reader in turn; `SPINMEROUND_FUZZ_SEED` gives other files, and `SPINMEROUND_FUZZ_KEEP` names a folder for those
that fail.
"""

import contextlib
import faulthandler
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import pytest

from spinmeround.storage.errors import EnvironmentUnavailable, SpinMeRoundError
from tests.fuzz.mutations import damaged
from tests.fuzz.readers import READERS, Reader

SECONDS = float(os.environ.get("SPINMEROUND_FUZZ_SECONDS", "600"))
SEED = int(os.environ.get("SPINMEROUND_FUZZ_SEED", "0"))
KEEP = os.environ.get("SPINMEROUND_FUZZ_KEEP")
LONGEST_S = 20
"""CPU time for one file; other programs of a busy machine take none of it."""
MOST_BYTES = 2**30
"""Memory that one small file may make a reader take."""
_LARGEST_ERROR = 3000
_ROOT = str(Path(__file__).parents[2])


class Hangs(BaseException):
    """Not an Exception, so that no reader takes it for a defect of the file."""


class Bench:
    """A reader with its folder of valid files, of which one at a time is damaged."""

    def __init__(self, name: str, reader: Reader, root: Path) -> None:
        self.name, self.reader, self.folder, self.valid = name, reader, root / "files", root / "valid"
        self.folder.mkdir(parents=True)
        reader.write(self.folder)
        shutil.copytree(self.folder, self.valid)
        found = sorted(path for path in self.folder.glob(reader.files) if path.is_file() and ".lock" not in path.name)
        self.files = [path.relative_to(self.folder) for path in found]

    def examine(self, rng: Random) -> tuple[Path, str | None]:
        """A file that was damaged, and what is wrong with the reader, or None."""
        path = self.folder / rng.choice(self.files)
        path.chmod(0o644)
        path.write_bytes(damaged(path.name, path.read_bytes(), rng))
        try:
            return path, problem_of(self.reader, self.folder)
        finally:
            if KEEP is None:
                self.restore()

    def restore(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.valid, self.folder)


def problem_of(reader: Reader, folder: Path) -> str | None:
    """What is wrong with what a reader does, in a line; the same line for the same place in the code."""
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest use so far, VmHWM, begins again
    try:
        with _limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.use(folder)
    except EnvironmentUnavailable as error:
        return f"blames the machine: {error}"
    except SpinMeRoundError as error:
        if len(str(error).splitlines()) > 10 or len(str(error)) > _LARGEST_ERROR:
            return f"an error of {len(str(error))} characters: {str(error)[:200]}"
    except (Exception, Hangs) as error:
        return f"{type(error).__name__} at {_place(error)}: {str(error)[:200]}"
    taken = _memory("VmHWM") - before
    return f"takes {taken / 2**20:.0f} MB" if taken > MOST_BYTES else None


def _place(error: BaseException) -> str:
    """The deepest line of this project, and the deepest at all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(_ROOT) and "/tests/" not in frame.filename]
    return " in ".join(f"{Path(each.filename).name}:{each.lineno}" for each in (*own[-1:], frames[-1]))


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises Hangs after seconds of CPU time; ends the process, with its stack, if native code hangs or waits."""

    def raise_hangs(*_: object) -> NoReturn:
        raise Hangs

    old = signal.signal(signal.SIGPROF, raise_hangs)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
    faulthandler.dump_traceback_later(30 * LONGEST_S, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def address_space() -> Iterator[None]:
    """A reader that asks for much memory gets a MemoryError, so it can't end the other programs of the machine."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + 8 * MOST_BYTES, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, old)


def fuzz(benches: list[Bench], seconds: float, examples: int = sys.maxsize) -> dict[str, Any]:
    """Examine the readers in turn; the number of files for each, and the problems with their numbers."""
    counts: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds and number < examples * len(benches):
        bench = benches[number % len(benches)]
        rng = Random(f"{SEED} {bench.name} {number}")
        path, problem = bench.examine(rng)
        counts[bench.name] += 1
        if problem:
            line = f"{bench.name}: {path.name}: {problem}"
            problems[line] += 1
            if KEEP and problems[line] == 1:
                kept = Path(KEEP) / f"{number:06d}-{bench.name.replace(' ', '-')}"
                shutil.copytree(bench.folder, kept, dirs_exist_ok=True)
                (kept / "PROBLEM").write_text(f"{path.relative_to(bench.folder)}: {problem}\n", encoding="utf-8")
        if KEEP:
            bench.restore()
        number += 1
    return {"files": dict(counts), "problems": dict(problems)}


@pytest.fixture(params=READERS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return Bench(request.param, READERS[request.param], tmp_path)


def test_valid_files_are_accepted(bench: Bench) -> None:
    """The files that are damaged below are accepted as they are, so refusals come from the damage."""
    bench.reader.use(bench.folder)


def test_damaged_files(bench: Bench) -> None:
    """A few files of each kind."""
    assert fuzz([bench], 60, examples=12)["problems"] == {}


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_damaged_files_for_long(tmp_path: Path) -> None:
    """All readers in turn for ten minutes, or SPINMEROUND_FUZZ_SECONDS."""
    benches = [Bench(name, reader, tmp_path / str(place)) for place, (name, reader) in enumerate(READERS.items())]
    found = fuzz(benches, SECONDS)
    print(f"\n{sum(found['files'].values())} files in {SECONDS:.0f} s: {found['files']}")
    assert found["problems"] == {}
