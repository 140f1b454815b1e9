"""A trained pipeline with a changed byte generates nothing."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from spinmeround.flows import generation
from spinmeround.flows.profile import load_profile
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import CorruptArtifact
from spinmeround.tasks.generation.params import GenerationParams, NothingInput
from tests.support.artifacts import damage, put


def test_generation_verifies_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of the right size with other bytes are an error before anything is loaded."""
    store = ArtifactStore(tmp_path / "store")
    key = put(store, "train", 1, files={"a.bin": b"0123"})
    damage(store, "train", key, data=b"0124")
    profile = load_profile("demo")
    session, training = SimpleNamespace(profile=profile, store=store), SimpleNamespace(name="train", key=key)
    monkeypatch.setattr(generation, "join_session", lambda *_: nullcontext(session))
    monkeypatch.setattr(generation, "dataset_of", lambda *_: tmp_path)
    monkeypatch.setattr(generation, "require_training", lambda *_: training)
    params = GenerationParams(given=NothingInput())
    with pytest.raises(CorruptArtifact, match=r"artifact train/.*SHA-256"):
        generation.generation_flow.fn(profile, params, str(tmp_path / "out"))
