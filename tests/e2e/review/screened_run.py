"""A run whose heads are screened without computing anything, and the server of its review page."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.flows.profile import Profile, validate_profile
from spinmeround.flows.review.http import Pages, page_server
from spinmeround.flows.review.server import ReviewBackend
from spinmeround.flows.run.folder import Place, open_run
from spinmeround.flows.run.session import Session, view_session
from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.records import Rendering
from spinmeround.tasks.heads.sample_files import Previews, write_previews
from spinmeround.tasks.screening.decisions import load_decisions
from tests.e2e.conftest import TINY

HEADS = 12
VALUES: dict[str, Any] = {
    **TINY,
    "score": {"cells": 32},
    "plan": {"heads": HEADS},
    "generator": {"name": "tests.support.tiny:make", "options": {"clipped": [3]}},
    "render": {"resolution": 16},  # the embedded autoencoder encodes it to latents of 4 x 4
    "train": {**TINY["train"], "unet": {**TINY["train"]["unet"], "latent_channels": 8}},
}
PROFILE = validate_profile(VALUES, source="test")


@contextmanager
def run_of(profile: Profile, place: Place) -> Iterator[Session]:
    """A session of a run whose folder exists."""
    open_run(place, profile.name)
    with view_session(profile, place) as session:
        yield session


def put(
    session: Session, stage: str, head: Any, files: dict[str, Any], write: Callable[[Path], None] = lambda out: None
) -> None:
    """Commit an artifact under the stage's key, with these JSON files and what `write` writes."""
    keys, made = session.keys[head.id], session.stages[stage]
    with session.store.commit(
        stage,
        keys[stage],
        version=made.stage.version,
        params=made.key_params(head),
        inputs={name: keys[name] for name in made.stage.inputs},
        weights=made.weights,
        subject=head.id,
    ) as out:
        write(out)
        for name, content in files.items():
            (out / name).write_text(json.dumps(content))


def screen_all(session: Session) -> None:
    """Previews and verdicts of all heads: every fourth head is dropped, the score falls with the seed."""
    for head in session.heads:
        rgb = np.full((4, 16, 16, 3), 6 * head.seed, np.uint8)
        rendering = Rendering(rgb=rgb, mask=np.full(rgb.shape[:3], 255, np.uint8), depth=np.ones(rgb.shape[:3], "f4"))
        previews = Previews(rendering=rendering, cameras=ViewGrid(azimuths=4, elevations_deg=(0.0,)).cameras())
        put(session, "sample", head, {}, lambda out, previews=previews: write_previews(out, previews))
        keep = head.seed % 4 != 3
        scores = {"clipped_volume": 1.0 - head.seed / HEADS, "depth_to_width": 1.0}
        reasons = [] if keep else ["clipped_volume"]
        put(session, "score", head, {"scores.json": scores}, write_map)
        put(session, "screen", head, {"verdict.json": {"keep": keep, "reasons": reasons, "scores": scores}})


def write_map(out: Path) -> None:
    """A map of the score stage over four previews."""
    np.savez(out / "evidence.npz", **{"map.corners": np.full((4, 16, 16), 128, np.uint8)})


@contextmanager
def serving(backend: Pages, port: int = 0) -> Iterator[int]:
    """Serve the review page, as the command does; yields the port."""
    with page_server(backend, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def decisions(backend: ReviewBackend) -> dict[str, str]:
    """The decisions in the file, by the last two digits of the head's id."""
    found = load_decisions(backend.session.decisions_file, backend.session.generator).active()
    return {name.removeprefix("tiny-0000"): decision for name, decision in found.items()}
