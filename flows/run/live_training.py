"""A training in the UI while it runs: a table of its latest metrics, a picture of its loss, and the newest contact
sheet of its samples.

The artifacts are created once and then changed, at most every `EVERY_S` seconds.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import numpy as np
from PIL import Image
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from spinmeround.flows.run.shown import picture_markdown
from spinmeround.tasks.report.curves import SIZES, draw, smoothed
from spinmeround.tasks.report.picture import curve_svg, svg_uri
from spinmeround.tasks.training.params import SAMPLES

EVERY_S = 15.0
_ROWS = 20
_COLUMNS = (
    "step",
    "loss",
    "validation",
    "learning_rate",
    "gradient_norm",
    "samples_per_second",
    "data_wait",
    "memory_mb",
)


class LiveTraining:
    """Shows the training whose metrics are in the file `metrics`, of `total` steps."""

    def __init__(self, metrics: Path, total: int) -> None:
        self.metrics, self.total = metrics, total
        self._shown_at = -EVERY_S
        self._ids: dict[str, UUID] = {}
        self._sheet: Path | None = None

    def show(self, done: int) -> None:
        """Show that `done` steps are done, if it is time or all are."""
        now = time.monotonic()
        if now - self._shown_at < EVERY_S and done < self.total:
            return
        self._shown_at = now
        self._show()

    def _show(self) -> None:
        records = read_records(self.metrics)
        self._show_sheet()
        if not records:
            return
        rows, picture = table_rows(records), loss_markdown(records)
        if "table" in self._ids:
            self._change("table", json.dumps(rows, allow_nan=False))
            self._change("picture", picture)
            return
        table = create_table_artifact(rows, key="training-metrics", description="The latest metrics")
        curve = create_markdown_artifact(picture, key="training-loss", description="The loss so far")
        self._ids |= {"table": cast(UUID, table), "picture": cast(UUID, curve)}

    def _show_sheet(self) -> None:
        sheet = newest_sheet(self.metrics)
        if sheet is None or sheet == self._sheet:
            return
        picture = sheet_markdown(sheet)
        if "sheet" in self._ids:
            self._change("sheet", picture)
        else:
            created = create_markdown_artifact(picture, key="training-samples", description="The newest samples")
            self._ids["sheet"] = cast(UUID, created)
        self._sheet = sheet

    def _change(self, name: str, data: str) -> None:
        with get_client(sync_client=True) as client:
            client.update_artifact(self._ids[name], ArtifactUpdate(data=data))


def read_records(metrics: Path) -> list[dict[str, Any]]:
    """The complete records in a file of metrics; none if it does not exist yet."""
    if not metrics.exists():
        return []
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def newest_sheet(metrics: Path) -> Path | None:
    """The newest contact sheet of a training, by its file of metrics; None if there is none yet."""
    return max(metrics.parent.joinpath(SAMPLES).glob("step-*.webp"), default=None)


def sheet_markdown(sheet: Path) -> str:
    """A contact sheet as a picture in Markdown."""
    with Image.open(sheet) as picture:
        return picture_markdown(picture, f"Samples after step {int(sheet.stem.removeprefix('step-'))}")


def table_rows(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The latest records, newest first, with the columns that people look at."""
    columns = [name for name in _COLUMNS if any(name in record for record in records[-_ROWS:])]
    return [
        {
            name: f"{record[name]:.4g}" if isinstance(record.get(name), float) else record.get(name, "")
            for name in columns
        }
        for record in reversed(records[-_ROWS:])
    ]


def loss_markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """The loss curve as a picture in Markdown; a line of text before there is a curve."""
    known = [(record["step"], record["loss"]) for record in records if record.get("loss", 0) > 0]
    if len(known) < 2:
        return "The loss is shown from the second record on."
    step, loss = np.array(known, np.float64).T
    width, height = SIZES[0]
    phase = np.zeros(len(step), np.int64)
    drawing = draw(step, loss, smoothed(loss), phase, width=width, height=height)
    return f"![Loss by step]({svg_uri(curve_svg(drawing))})"
