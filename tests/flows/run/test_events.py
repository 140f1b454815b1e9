"""The event of a new dataset: what it states, and that it never fails a build."""

from pathlib import Path
from typing import Any

import pytest

from spinmeround.flows.run import events
from spinmeround.tasks.dataset.publish import Published

FOUND = Published(path=Path("/runs/tiny/datasets/0123.zarr"), digest="0" * 64, key="", outcome="made")


def test_the_event_states_path_and_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its resource names the profile and the run's folder, by which an automation selects it."""
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(events, "emit_event", lambda name, **rest: sent.append((name, rest)))
    events.announce_dataset("tiny", Path("/runs/tiny"), FOUND)
    ((name, event),) = sent
    assert name == "spinmeround.dataset.published"
    assert event["resource"]["prefect.resource.id"] == "spinmeround.dataset.tiny"
    assert event["resource"]["spinmeround.run"] == "/runs/tiny"
    assert (event["payload"]["path"], event["payload"]["digest"]) == (str(FOUND.path), FOUND.digest)


def test_an_event_that_cannot_be_sent_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dataset is published whatever becomes of the event."""
    tried: list[str] = []

    def refuse(name: str, **rest: Any) -> None:
        tried.append(name)
        raise OSError("the server is gone")

    monkeypatch.setattr(events, "emit_event", refuse)
    events.announce_dataset("tiny", Path("/runs/tiny"), FOUND)
    assert tried == ["spinmeround.dataset.published"]
