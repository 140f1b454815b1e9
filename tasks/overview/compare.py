"""What differs between two runs: parameters, counts of heads, stages, losses, metrics and datasets, from their
summaries, and a contact sheet of heads that both datasets have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic_core import from_json

from spinmeround.storage.dataset import DatasetDiff, HeadDataset, diff_datasets
from spinmeround.storage.documents import read_bytes
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side
from spinmeround.tasks.pictures.webp import nearest_view

HEADS, CELL = 8, 384
AZIMUTHS_DEG = (0.0, 90.0)

Changes = dict[str, tuple[Any, Any]]
"""Dotted name of a value -> (in the first run, in the second); None where it is missing."""


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """The differences between two runs; each part has only what differs. `dataset` is None if one run has none."""

    names: tuple[str, str]
    parameters: Changes
    heads: Changes
    stages: Changes
    results: Changes
    dataset: DatasetDiff | None

    @property
    def empty(self) -> bool:
        """Whether the runs have equal parameters and results; how much of them was made or reused may differ."""
        return not (
            self.parameters or self.heads or self.results or (self.dataset is not None and not self.dataset.empty)
        )


def read_summary(run: Path) -> dict[str, Any]:
    """The summary of a run, given its folder or a summary's file. Raises ConfigError if there is none."""
    file = run / "summary.json" if run.is_dir() else run
    expected = f"{run}: expected the folder of a run or its summary.json"
    if not file.is_file():
        raise ConfigError(f"{expected}, found neither; run a command such as 'spinmeround build' first")
    try:
        found = from_json(read_bytes(file, "a JSON file"))
    except ValueError as error:
        raise ConfigError(f"{expected}, found no JSON in it") from error
    if not isinstance(found, dict) or not isinstance(found.get("parameters"), dict):
        raise ConfigError(f"{expected}, found a JSON file without parameters")
    return found


def compare_runs(first: Path, second: Path) -> RunComparison:
    """Compare two runs, given their folders or summaries.

    Raises ConfigError for a place without a summary, DatasetError for a dataset that can't be read.
    """
    old, new = read_summary(first), read_summary(second)
    datasets = [_dataset(summary) for summary in (old, new)]
    return RunComparison(
        names=(str(first), str(second)),
        parameters=changes(old["parameters"], new["parameters"]),
        heads=changes(old.get("heads"), new.get("heads")),
        stages=changes(_made(old), _made(new)),
        results=changes(dict(_results(old)), dict(_results(new))),
        dataset=diff_datasets(datasets[0], datasets[1]) if datasets[0] and datasets[1] else None,
    )


def changes(old: Any, new: Any, name: str = "") -> Changes:
    """The values that differ between two nested mappings; a mapping that only one of them has counts as one value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        both: Changes = {}
        for key in dict.fromkeys([*old, *new]):
            both |= changes(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
        return both
    return {} if old == new else {name: (old, new)}


def comparison_sheet(first: Path, second: Path, found: RunComparison) -> Image.Image | None:
    """Heads of both runs from the front and the side: first run, second run, absolute difference (times 4).

    Heads that differ come first. None without two datasets of pictures of one size that have heads in common.
    """
    places = [_dataset(read_summary(run)) for run in (first, second)]
    if found.dataset is None or places[0] is None or places[1] is None:
        return None
    datasets = [HeadDataset.open(place) for place in places if place is not None]
    both = [id for id in datasets[0].ids if id in set(datasets[1].ids)]
    changed = [id for id in both if id in found.dataset.changed]
    chosen = [*changed, *(id for id in both if id not in found.dataset.changed)][:HEADS]
    rows = [[_views(dataset, id) for dataset in datasets] for id in chosen]
    if not rows or rows[0][0].shape != rows[0][1].shape:
        return None
    cells, captions = [], []
    for id, (old, new) in zip(chosen, rows, strict=True):
        difference = np.abs(old.astype(np.int16) - new.astype(np.int16))
        shown = [old, new, np.minimum(4 * difference, 255).astype(np.uint8)]
        cells.append(side_by_side(np.concatenate(shown)))
        captions.append(f"{id}: mean difference {difference.mean():.2f} of 255")
    title = "first run, second run, difference times 4"
    return contact_sheet(cells, captions, title=title, style=SheetStyle(columns=1, cell=2 * CELL))


def comparison_tables(found: RunComparison) -> Iterator[tuple[str, Sequence[str], list[tuple[str, str, str]]]]:
    """(title, header, rows) of each part that differs."""
    parts = {
        "parameters": found.parameters,
        "heads": found.heads,
        "made": found.stages,
        "results": found.results,
        **({} if found.dataset is None else {"dataset": _dataset_changes(found.dataset)}),
    }
    for title, values in parts.items():
        if values:
            rows = [(name, _text(old), _text(new)) for name, (old, new) in values.items()]
            yield title, (title, "first", "second"), rows


def _dataset_changes(found: DatasetDiff) -> Changes:
    """The difference of the datasets in numbers of heads."""
    numbers = {
        "heads only in it": (len(found.removed), len(found.added)),
        "common heads that differ": (len(found.changed), len(found.changed)),
    }
    return {name: values for name, values in numbers.items() if any(values)}


def _dataset(summary: Mapping[str, Any]) -> Path | None:
    """The dataset of a run that still exists."""
    path = Path((summary.get("dataset") or {}).get("path", ""))
    return path if path.name and path.is_dir() else None


def _made(summary: Mapping[str, Any]) -> dict[str, int]:
    return {name: stage["made"] for name, stage in summary.get("stages", {}).items()}


def _results(summary: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Digest, losses by phase, and the model's metrics."""
    if dataset := summary.get("dataset"):
        yield "digest", dataset["digest"][:12]
    for phase in (summary.get("training") or {}).get("phases", ()):
        yield f"{phase['stage']} loss", phase["loss_last"]
    yield from (summary.get("evaluation") or {}).get("model", {}).items()


def _views(dataset: HeadDataset, id: str) -> np.ndarray:
    subject = dataset.ids.index(id)
    cameras = dataset.cameras(subject)
    views = [nearest_view(cameras["azimuth_deg"], cameras["elevation_deg"], (azimuth, 0.0)) for azimuth in AZIMUTHS_DEG]
    found: np.ndarray = dataset.read_views(subject, views, ["rgb"])["rgb"]
    return found


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
