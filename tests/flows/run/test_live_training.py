"""What the page of a training shows while it runs."""

import base64
import io
import re
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image

from spinmeround.flows.run import live_training as module
from spinmeround.flows.run.live_training import LiveTraining, newest_sheet, sheet_markdown
from spinmeround.tasks.pictures.contact_sheet import save_contact_sheet
from spinmeround.tasks.training.params import METRICS, SAMPLES

pytestmark = pytest.mark.fast


def write_sheet(folder: Path, step: int) -> Path:
    """A sheet of one colour by step."""
    path = folder / SAMPLES / f"step-{step:09d}.webp"
    save_contact_sheet(path, Image.new("RGB", (1500, 40), (step, 90, 30)))
    return path


def pictured(markdown: str) -> tuple[int, Image.Image]:
    """Step and picture of a sheet in Markdown."""
    found = re.fullmatch(r"!\[Samples after step (\d+)\]\(data:image/webp;base64,([^)]+)\)", markdown)
    assert found is not None
    return int(found[1]), Image.open(io.BytesIO(base64.b64decode(found[2])))


def test_the_newest_sheet_as_a_picture(tmp_path: Path) -> None:
    """None without sheets; of several the last, no wider than 1200 pixels."""
    assert newest_sheet(tmp_path / METRICS) is None
    for step in (200, 50):
        write_sheet(tmp_path, step)
    newest = newest_sheet(tmp_path / METRICS)
    assert newest is not None
    step, picture = pictured(sheet_markdown(newest))
    assert (step, picture.size) == (200, (1200, 32))
    assert np.asarray(picture).mean((0, 1)) == pytest.approx((200, 90, 30), abs=3)


def test_the_artifact_changes_with_each_new_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is created with the first sheet, before there is a record, and changed when a new one is there."""
    created: list[tuple[str, str]] = []
    changed: list[str] = []

    def create(markdown: str, *, key: str, description: str) -> UUID:
        created.append((key, markdown))
        return uuid4()

    monkeypatch.setattr(module, "create_markdown_artifact", create)
    monkeypatch.setattr(LiveTraining, "_change", lambda self, name, data: changed.append(data))
    live = LiveTraining(tmp_path / METRICS, 30)
    for step in (10, 20):
        write_sheet(tmp_path, step)
        for _ in range(2):
            live._show()
    assert [(key, pictured(markdown)[0]) for key, markdown in created] == [("training-samples", 10)]
    assert [pictured(markdown)[0] for markdown in changed] == [20]
