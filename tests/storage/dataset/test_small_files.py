"""Opening a dataset compares the files that its heads share with the manifest, and the manifest with its digest."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from spinmeround.storage.dataset import HeadDataset, add_latents, publish
from spinmeround.storage.errors import DatasetError
from tests.support.heads import write_all_latents, write_heads

ATTRIBUTES = {"split": {"validation": 0.125, "test": 0.25}, "licence": "CC0-1.0"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    heads = write_heads(root / "heads", range(3))
    path = publish(root / "datasets", heads, ATTRIBUTES).path
    add_latents(path, write_all_latents(root / "latents", [head.id for head in heads]), "autoencoder-1")
    return path


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "x.zarr"))


def _use(path: Path) -> None:
    dataset = HeadDataset.open(path)
    dataset.latents_attributes()
    assert len(dataset.cameras(0))
    assert len(dataset.identities) == len(dataset.seeds)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("zarr.json", b"procedural-000001", b"procedural-000009"),
        ("zarr.json", b"0.125", b"0.135"),
        ("zarr.json", b"CC0-1.0", b"CC0-1.1"),
        ("rgb/zarr.json", b'"fill_value": 0', b'"fill_value": 1'),
        ("latents/zarr.json", b"autoencoder-1", b"autoencoder-3"),
        ("latents/normals/zarr.json", b'"fill_value": 0.0', b'"fill_value": 1.0'),
        ("latents/manifest.json", b'"size": ', b'"size":\t'),
    ],
    ids=["id", "split", "attribute", "array", "autoencoder", "latents array", "white space only"],
)
def test_changed_metadata_are_an_error(dataset: Path, file: str, old: bytes, new: bytes) -> None:
    """Metadata that satisfy the schema and differ from the manifest are refused; white space in a manifest is not."""
    data = (dataset / file).read_bytes()
    assert old in data
    (dataset / file).write_bytes(data.replace(old, new, 1))
    if file.endswith("manifest.json"):
        _use(dataset)
    else:
        with pytest.raises(DatasetError, match=r"does not match its SHA-256|expected the digest"):
            _use(dataset)


@pytest.mark.parametrize("file", ["manifest.json", "latents/manifest.json"])
def test_a_manifest_that_differs_from_its_digest_is_an_error(dataset: Path, file: str) -> None:
    """The record of any part of the listing decides the digest, that of the heads' own files too."""
    manifest = json.loads((dataset / file).read_bytes())
    manifest["parts"]["listing/heads-00000.txt"]["sha256"] = "0" * 64
    (dataset / file).write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="expected the digest"):
        _use(dataset)


@pytest.mark.parametrize("array", ["cam2world", "intrinsics", "identity", "seed"])
def test_small_arrays_of_another_dataset_are_an_error(dataset: Path, array: str, tmp_path: Path) -> None:
    """Intact chunks of other heads are refused, although their own checksums match."""
    other = publish(tmp_path / "other", write_heads(tmp_path / "heads", range(3, 6)), ATTRIBUTES).path
    (chunk,) = [path.relative_to(other) for path in (other / array).glob("c.*")]
    if (other / chunk).read_bytes() == (dataset / chunk).read_bytes():
        (dataset / chunk).write_bytes((other / chunk).read_bytes() + b" ")
    else:
        shutil.copyfile(other / chunk, dataset / chunk)
    with pytest.raises(DatasetError, match="does not match its SHA-256"):
        _use(dataset)


def test_a_dataset_in_another_process_is_checked_too(dataset: Path) -> None:
    """A worker's copy reads without opening again, and compares small arrays with the same records."""
    copy = pickle.loads(pickle.dumps(HeadDataset.open(dataset)))
    np.testing.assert_array_equal(copy.identities, HeadDataset.open(dataset).identities)
    assert copy.digest == HeadDataset.open(dataset).digest
