"""The registry of embedded weights."""

import json
from pathlib import Path

import pytest

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.weights import embedded_weights, fingerprint, list_embedded, record_embedded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A registry with one file, one folder and one entry whose file is missing."""
    entries = [
        {"name": name, "purpose": "p", "licence": "l", "path": path, "sha256": None}
        for name, path in {"file": "a.onnx", "folder": "vae", "missing": "b.onnx"}.items()
    ]
    (tmp_path / "index.json").write_text(json.dumps(entries))
    (tmp_path / "a.onnx").write_bytes(b"weights")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}")
    return tmp_path


def test_shipped_index_names_all() -> None:
    """Every shipped part has a purpose and a licence, and its files exist with the fingerprint in the index."""
    entries = {entry.name: entry for entry in list_embedded()}
    assert {"autoencoder", "recognition"} <= entries.keys()
    for entry in entries.values():
        assert entry.purpose
        assert entry.licence
        assert fingerprint(embedded_weights(entry.name)) == entry.sha256


def test_recorded_fingerprints_are_checked(folder: Path) -> None:
    """Recorded files are found; changed ones are refused by name."""
    for name, path in {"file": "a.onnx", "folder": "vae"}.items():
        assert embedded_weights(name, folder) == folder / path
        assert record_embedded(name, folder).sha256 == fingerprint(folder / path)
        assert embedded_weights(name, folder) == folder / path
    embedded_weights.cache_clear()
    (folder / "vae" / "config.json").write_text("{ }")
    with pytest.raises(SpinMeRoundError, match="'folder': expected the fingerprint"):
        embedded_weights("folder", folder)
    assert embedded_weights("file", folder) == folder / "a.onnx"


def test_missing_weights_are_named(folder: Path) -> None:
    """Errors for missing files and unknown names say what was expected."""
    with pytest.raises(SpinMeRoundError, match=r"'missing': expected .*b\.onnx, found nothing"):
        embedded_weights("missing", folder)
    with pytest.raises(SpinMeRoundError, match="'other': expected one of file, folder, missing"):
        embedded_weights("other", folder)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x"])
def test_paths_stay_in_the_package(folder: Path, path: str) -> None:
    """The index cannot name files outside its folder."""
    entry = {"name": "x", "purpose": "p", "licence": "l", "path": path, "sha256": None}
    (folder / "index.json").write_text(json.dumps([entry]))
    with pytest.raises(SpinMeRoundError, match="expected the index of embedded weights"):
        list_embedded(folder)
