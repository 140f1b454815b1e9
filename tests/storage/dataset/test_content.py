"""The pass over every byte before a training: what it finds, and when it does not read again."""

import os
import shutil
from pathlib import Path

import pytest

from spinmeround.storage.dataset import HeadDataset, add_latents, check_content, publish
from spinmeround.storage.errors import DatasetError
from tests.support.heads import flip_bit, write_all_latents, write_heads
from tests.support.manifests import names as listed


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pristine")
    heads = write_heads(root / "heads", range(2))
    path = publish(root / "datasets", heads, {}).path
    add_latents(path, write_all_latents(root / "latents", [head.id for head in heads]), "autoencoder")
    return path


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "x.zarr"))


def check(path: Path) -> bool:
    return check_content(HeadDataset.open(path))


def test_a_second_pass_reads_nothing_until_a_file_changes(dataset: Path) -> None:
    """The stamp is of the digests, sizes and times; new latents, a touched file and a copy are read again."""
    assert check(dataset)
    assert not check(dataset)
    os.utime(dataset / "rgb/c.1.0.0.0.0", ns=(1, 1))
    assert check(dataset)
    assert not check(dataset)
    ids = list(HeadDataset.open(dataset).ids)
    add_latents(dataset, write_all_latents(dataset.parent / "other", ids), "another autoencoder")
    assert check(dataset)
    assert check(Path(shutil.copytree(dataset, dataset.parent / "y.zarr")))


def test_every_file_is_checked(dataset: Path) -> None:
    """A flipped bit in any file of the manifests is found, and the file is named; a missing one too."""
    check(dataset)
    for group in (dataset, dataset / "latents"):
        for name in listed(group):
            if not name.endswith("zarr.json"):  # those stop the opening
                data = (group / name).read_bytes()
                flip_bit(group / name)
                with pytest.raises(DatasetError, match=name):
                    check(dataset)
                (group / name).write_bytes(data)
    (dataset / "mask/c.0.0.0.0").unlink()
    with pytest.raises(DatasetError, match=r"mask/c\.0\.0\.0\.0 is missing"):
        check(dataset)


def test_a_folder_that_cannot_be_written_to_is_checked_each_time(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only disk keeps no stamp, and is no error."""

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr("spinmeround.storage.dataset.content.write_atomic", refuse)
    assert check(dataset)
    assert check(dataset)
