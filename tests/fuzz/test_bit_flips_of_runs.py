"""Random bit flips over a whole run folder: store, dataset, latents, checkpoints, pipeline and small files.

After a flip everything that a later run reads of the file is read again: it raises an error of this package, or gives
what it gave before. A damaged dataset or store is found by `verify`, and a dataset by the pass before a training.
`SPINMEROUND_FLIPS_SEED` gives other flips.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.heads.registry import PUBLISHED_STAGES
from tests.fuzz import run_folder
from tests.fuzz.run_folder import RunFolder

SEED = int(os.environ.get("SPINMEROUND_FLIPS_SEED", "0"))
NOT_READ = {"report.html", "summaries", "locks"}
"""Files that people look at, and locks."""
JOINED = {*PUBLISHED_STAGES, "review", "encode"}
"""Stages whose artifacts are read when the dataset is joined."""
Use = Callable[[RunFolder], Any]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(tmp_path_factory.mktemp("run"))


def uses_of(run: RunFolder, name: Path) -> dict[str, Use]:
    """What reads a file of the run, by a name for each use."""
    match name.parts:
        case ("store", "runs", *_) | ("run.json",) | ("summary.json",):
            return {"gc": run_folder.kept}
        case ("store", ("multi-view" | "evaluate" | "publish") as stage, *_):
            uses: dict[str, Use] = {"next run": run_folder.reused}
            return uses | ({"evaluation": run_folder.evaluated_again} if stage == "multi-view" else {})
        case ("store", "evaluate-head", *_):
            return {"evaluation": run_folder.evaluated_again}
        case ("store", _, *_):
            stage, head = run_folder.head_and_stage(run, name)
            again: dict[str, Use] = {"later stages": partial(run_folder.remade, stage=stage, head=head)}
            return again | ({"publish": run_folder.joined_again} if stage in JOINED else {})
        case ("datasets", "versions.json"):
            return {"versions": run_folder.versions}
        case ("datasets", *_):
            return {"loader": run_folder.loaded, "next run": run_folder.reused}
        case ("training", *_):
            return {"training": run_folder.resumed}
    return {"next run": run_folder.reused}


def checks_of(name: Path) -> dict[str, Callable[[RunFolder], bool]]:
    """What must see a flip in a file of the run; each returns whether it finds nothing."""
    match name.parts:
        case ("store", ("runs" | "failures"), *_):
            return {}
        case ("store", *_):
            return {"store verify": run_folder.store_is_verified}
        case ("datasets", "versions.json"):
            return {}
        case ("datasets", *_) if name.suffix != ".checked":
            return {"dataset verify": run_folder.dataset_is_verified, "check": run_folder.dataset_is_checked}
    return {}


def flips(run: RunFolder, count: int) -> Iterator[tuple[Path, int]]:
    """Files and the bits to flip; each file is as likely as any other, and so is each bit of it."""
    files = [name for name in run.files if not NOT_READ & set(name.parts) and (run.path / name).stat().st_size]
    rng = np.random.default_rng(SEED)
    for _ in range(count):
        name = files[int(rng.integers(len(files)))]
        yield name, int(rng.integers(8 * (run.path / name).stat().st_size))


def outcome(run: RunFolder, use: Use) -> Any:
    """What a use gives, or the error of this package that it raises; it may warn of what it passes over."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return use(run)
    except SpinMeRoundError as error:
        return error


def wrong_after(run: RunFolder, name: Path, bit: int, truth: dict[tuple[str, str], Any]) -> list[str]:
    """The uses that give another result after a flip, and the checks that miss it."""
    wrong = []
    for kind, use in uses_of(run, name).items():
        run.flip(name, bit)
        found = outcome(run, use)
        run.restore()
        if not isinstance(found, SpinMeRoundError) and found != truth[kind, _place(run, name, kind)]:
            wrong.append(kind)
    for kind, check in checks_of(name).items():
        run.flip(name, bit)
        wrong += [kind] if check(run) else []
        run.restore()
    return wrong


def _place(run: RunFolder, name: Path, kind: str) -> str:
    """What the truth of a use depends on: the artifact for what is remade, else nothing."""
    return "/".join(run_folder.head_and_stage(run, name)) if kind == "later stages" else ""


def run_flips(run: RunFolder, count: int) -> tuple[list[str], Counter[str]]:
    """The flips that were used in silence or missed, and the number of flips by part of the folder."""
    truth: dict[tuple[str, str], Any] = {}
    parts: Counter[str] = Counter()
    found = []
    for name, bit in flips(run, count):
        parts["/".join(name.parts[:2])] += 1
        for kind, use in uses_of(run, name).items():
            place = (kind, _place(run, name, kind))
            if place not in truth:
                truth[place] = use(run)
                run.restore()
        found += [f"{kind}: bit {bit} of {name}" for kind in wrong_after(run, name, bit, truth)]
    return found, parts


def test_no_flipped_bit_of_a_run_is_used_in_silence(run: RunFolder) -> None:
    """A few flips of all parts of a run."""
    assert run_flips(run, 6)[0] == []


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_thousand_flipped_bits_of_a_run_are_not_used_in_silence(run: RunFolder) -> None:
    """The same for 1,000 flips; prints how many fell into which part."""
    found, parts = run_flips(run, int(os.environ.get("SPINMEROUND_FLIPS", "1000")))
    print(f"\n{sum(parts.values())} flips in {len(run.files)} files: {dict(sorted(parts.items()))}")
    assert found == []
