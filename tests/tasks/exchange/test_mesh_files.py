"""Export of a head's mesh reads verified artifacts."""

from pathlib import Path

import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import CorruptArtifact
from spinmeround.tasks.exchange.mesh_files import export_head
from tests.support.artifacts import damage, put


def test_a_changed_byte_is_found_before_the_export(tmp_path: Path) -> None:
    """A mesh of the right size with other bytes is moved aside and named, and no file appears."""
    store = ArtifactStore(tmp_path / "store")
    keys = {stage: put(store, stage, 1, files={"a.bin": b"0123"}) for stage in ("mesh", "render")}
    damage(store, "mesh", keys["mesh"], data=b"0124")
    with pytest.raises(CorruptArtifact, match=r"artifact mesh/.*SHA-256"):
        export_head(store, keys, ViewGrid().cameras(), tmp_path / "head.glb")
    assert not (tmp_path / "head.glb").exists()
