"""The manifest of a dataset: written, opened and verified in parts, whatever the number of heads."""

import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from spinmeround.storage.dataset import HeadDataset, publish, read_manifest, verify
from spinmeround.storage.dataset.manifest import HEADS_PER_PART, MAX_MANIFEST_BYTES, SHARED
from spinmeround.storage.errors import DatasetError
from tests.support.heads import flip_bit, write_heads
from tests.support.manifests import edit_listing
from tests.support.synthetic import write_synthetic

MANY = 200_000
HEAD_FILES = 4


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 200,000 heads, whose shards are not there."""
    return write_synthetic(tmp_path_factory.mktemp("many"), MANY)


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of two parts of three and two heads, with all files."""
    monkeypatch.setattr("spinmeround.storage.dataset.manifest.HEADS_PER_PART", 3)
    return publish(tmp_path / "datasets", write_heads(tmp_path / "all", range(5)), {}).path


def _peak_mb(act: Callable[[], object]) -> float:
    """Peak of Python's memory during a call."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_opening_many_heads_reads_no_shard(many: Path) -> None:
    """A dataset of 200,000 heads opens without its shards, in the memory of its ids and one part of the listing."""
    opened: list[HeadDataset] = []
    assert _peak_mb(lambda: opened.append(HeadDataset.open(many))) < 100
    assert len(opened[0]) == MANY
    assert opened[0].cameras(MANY - 1)["cam2world"].shape == (2, 4, 4)
    assert not (many / "rgb" / "c.0.0.0.0.0").exists()


def test_the_listing_of_many_heads_is_read_in_parts(many: Path) -> None:
    """All records of 200,000 heads pass, each once, and no more than a few parts are held."""
    manifest = read_manifest(many)
    counted = [len(records) for records in manifest.blocks()]
    assert sum(counted[1:]) == MANY * HEAD_FILES
    assert _peak_mb(lambda: [len(records) for records in islice(read_manifest(many).blocks(), 5)]) < 30
    assert counted[0] == len(manifest.shared())
    last = manifest.record(f"rgb/c.{MANY - 1}.0.0.0.0", MANY - 1)
    assert last == manifest.record("rgb/c.0.0.0.0.0", 0)


def test_verify_reads_the_listing_part_by_part(dataset: Path) -> None:
    """A dataset of more heads than a part is intact, and damage in the second part is found by head."""
    assert verify(dataset, threads=1) == []
    flip_bit(dataset / "mask/c.4.0.0.0")
    assert [(problem.head, problem.file) for problem in verify(dataset)] == [("procedural-000004", "mask/c.4.0.0.0")]


@pytest.mark.parametrize("part", [SHARED, "listing/heads-00000.txt", "listing/heads-00001.txt"])
@pytest.mark.parametrize("damage", ["cut", "edited", "missing", "unlisted"])
def test_a_damaged_listing_is_refused(dataset: Path, part: str, damage: str) -> None:
    """A part that is cut off, edited, missing or not in the manifest stops whoever reads it, and is reported."""
    data = (dataset / part).read_bytes()
    if damage == "unlisted":
        manifest = json.loads((dataset / "manifest.json").read_bytes())
        del manifest["parts"][part]
        (dataset / "manifest.json").write_text(json.dumps(manifest))
    else:
        (dataset / part).unlink()
        if damage != "missing":
            changed = data[: data.rindex(b"\n", 0, -1) + 1] if damage == "cut" else data.replace(b"c.", b"d.", 1)
            (dataset / part).write_bytes(changed)
    with pytest.raises(DatasetError, match=r"listing|expected the digest"):
        _read_all(dataset)
    assert verify(dataset, threads=1)


def _read_all(dataset: Path) -> None:
    HeadDataset.open(dataset)
    assert list(read_manifest(dataset).blocks())


def test_a_listing_of_other_heads_is_found(dataset: Path) -> None:
    """A part that names files of another part is reported, also if manifest and digest were made to match."""
    edit_listing(dataset, lambda records: records.update({"rgb/c.1.0.0.0.0": records[min(records)]}))
    assert any("expected files of its heads, found rgb/c.1.0.0.0.0" in each.what for each in verify(dataset, threads=1))


def test_a_listing_with_too_few_parts_is_refused(dataset: Path, tmp_path: Path) -> None:
    """A manifest without the records of the last heads is refused when the dataset is opened."""
    other = publish(tmp_path / "other", write_heads(tmp_path / "heads", range(2)), {}).path
    shutil.copy(other / "manifest.json", dataset / "manifest.json")
    shutil.copytree(other / "listing", dataset / "listing", dirs_exist_ok=True)
    with pytest.raises(DatasetError, match=r"expected the 3 parts of a listing of 5 heads, found 2"):
        HeadDataset.open(dataset)


def test_writers_have_the_limit_of_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that no reader would accept is refused when it is written, before the dataset appears."""
    heads = write_heads(tmp_path / "heads", range(1))
    assert MAX_MANIFEST_BYTES >= HEADS_PER_PART * HEAD_FILES * 300
    monkeypatch.setattr(sys.modules["spinmeround.storage.dataset.manifest"], "MAX_MANIFEST_BYTES", 100)
    with pytest.raises(DatasetError, match="publish fewer heads"):
        publish(tmp_path / "datasets", heads, {})
    assert not list((tmp_path / "datasets").glob("*.zarr"))
