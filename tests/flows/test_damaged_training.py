"""A trained pipeline with a changed byte generates nothing."""

from pathlib import Path

import pytest

from spinmeround.flows.generation import _generate
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import CorruptArtifact
from spinmeround.tasks.generation.params import GenerationParams, NothingInput
from spinmeround.tasks.heads.embed import EmbedParams
from tests.support.artifacts import damage, put


def test_generation_verifies_the_weights(tmp_path: Path) -> None:
    """Weights of the right size with other bytes are an error before anything is loaded."""
    store = ArtifactStore(tmp_path / "store")
    key = put(store, "train", 1, files={"a.bin": b"0123"})
    damage(store, "train", key, data=b"0124")
    with pytest.raises(CorruptArtifact, match=r"artifact train/.*SHA-256"):
        _generate(
            tmp_path / "store",
            tmp_path,
            key,
            GenerationParams(given=NothingInput()),
            tmp_path / "out",
            EmbedParams(),
            lambda step: None,
        )
