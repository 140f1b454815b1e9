"""The commands of `spinmeround dataset`: what they print, and their exit status."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset, publish, read_manifest, record_version
from tests.support.artifacts import put
from tests.support.cases import CASES
from tests.support.heads import flip_bit, write_heads
from tests.support.manifests import Listing, edit_listing


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with version 1 of two heads and version 2 of three."""
    heads, folder = write_heads(tmp_path / "heads", range(3)), tmp_path / "run" / "datasets"
    for count in (2, 3):
        record_version(folder, publish(folder, heads[:count], {"counts": {"asked": count}}).digest, count)
    return tmp_path / "run"


def call(*arguments: object) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    return found.exit_code, found.output


def test_versions_and_their_differences(run_folder: Path) -> None:
    """Versions are listed for a run and for a dataset of it, and compared by number, digest or path."""
    code, listed = call("versions", run_folder)
    assert code == 0
    assert [line.split()[0] for line in listed.splitlines()] == ["v1", "v2"]
    digests = [line.split()[1] for line in listed.splitlines()]
    second = run_folder / "datasets" / f"{digests[1]}.zarr"
    assert call("versions", second) == (0, listed)
    for after in ("v2", digests[1]):
        assert call("diff", "v1", after, "--of", run_folder) == (0, "+ procedural-000002\n  counts.asked: 2 -> 3\n")
    assert call("diff", second, second) == (0, "no difference\n")
    code, output = call("diff", "v1", "v2")
    assert code == 2
    assert "--of RUN" in output


def test_damage_that_cannot_be_repaired(run_folder: Path) -> None:
    """Without parameters among the attributes a repair says what it needs, and exits with 1."""
    dataset = sorted((run_folder / "datasets").glob("*.zarr"))[0]
    flip_bit(dataset / "rgb/c.0.0.0.0.0")
    code, output = call("verify", dataset)
    assert (code, "procedural-000000 rgb: rgb/c.0.0.0.0.0" in output) == (1, True)
    code, output = call("verify", dataset, "--repair")
    assert (code, "--profile" in output, "1 problems remain" in output) == (1, True, True)


def _swap_heads(dataset: Path) -> str:
    """Swap the pictures of two heads, and edit the manifest to match; returns the digest that it then has."""

    def swap(files: Listing) -> None:
        for name in [name for name in files if name.split("/")[0] in ("rgb", "mask", "normals") and "/c.0." in name]:
            other = name.replace("/c.0.", "/c.1.")
            files[name], files[other] = files[other], files[name]
            (dataset / name).rename(dataset / "swap")
            (dataset / other).rename(dataset / name)
            (dataset / "swap").rename(dataset / other)

    return edit_listing(dataset, swap)


def test_a_manifest_that_was_edited_to_match_is_found(run_folder: Path) -> None:
    """A dataset of swapped heads contradicts its folder's name, then the list of versions, then the store."""
    dataset = sorted((run_folder / "datasets").glob("*.zarr"))[0]
    digest = read_manifest(dataset).digest
    code, output = call("verify", dataset)
    assert (code, f"intact, digest {digest}" in output) == (0, True)
    assert call("verify", dataset, "--digest", digest)[0] == call("verify", dataset, "--digest", digest[:12])[0] == 0
    assert call("verify", dataset, "--digest", digest[:4])[0] == 1
    swapped = _swap_heads(dataset)
    code, output = call("verify", dataset)
    assert (code, "of the folder's name" in output, "versions.json states" in output) == (1, True, True)
    renamed = dataset.rename(dataset.with_name(f"{swapped[:12]}.zarr"))
    code, output = call("verify", renamed)
    assert (code, "of the folder's name" in output, "versions.json states" in output) == (1, False, True)
    (renamed.parent / "versions.json").unlink()
    assert call("verify", renamed)[0] == 0
    assert call("verify", renamed, "--digest", digest)[0] == 1
    _put_published(run_folder / "store", digest, heads=1)
    assert call("verify", renamed)[0] == 0
    _put_published(run_folder / "store", digest, heads=len(HeadDataset.open(renamed)))
    code, output = call("verify", renamed)
    assert (code, "store/publish/" in output) == (1, True)


def _put_published(store: Path, digest: str, heads: int = 2) -> None:
    """The publish artifact of a dataset of the first heads."""
    inputs = {f"procedural-{number:06}/render": "0" * 64 for number in range(heads)}
    put(ArtifactStore(store), "publish", heads, inputs, {"dataset.json": json.dumps({"digest": digest}).encode()})


@pytest.mark.parametrize("name", ["{digest}.zarr", "heads.zarr"])
@pytest.mark.parametrize(
    ("index", "artifact"), [("edited", "original"), ("none", "original"), ("original", "edited"), ("original", "none")]
)
def test_each_place_that_states_a_digest_is_compared(run_folder: Path, name: str, index: str, artifact: str) -> None:
    """Swapped heads contradict the index of versions or the publish artifact, whatever the other and the name say."""
    dataset = sorted((run_folder / "datasets").glob("*.zarr"), key=lambda path: HeadDataset.open(path).ids)[0]
    digest, store = read_manifest(dataset).digest, run_folder / "elsewhere"
    swapped = _swap_heads(dataset)
    renamed = dataset.rename(dataset.with_name(name.format(digest=swapped[:12])))
    if index != "original":
        (renamed.parent / "versions.json").unlink()
    if index == "edited":
        record_version(renamed.parent, swapped, 2)
    if artifact != "none":
        _put_published(store, swapped if artifact == "edited" else digest)
    code, output = call("verify", renamed, *(["--store", store] if artifact != "none" else []))
    assert (code, "1 problems" in output) == (1, True)
    assert ("versions.json states" in output, "store/publish" in output or "elsewhere/publish" in output) == (
        index == "original",
        artifact == "original",
    )


def test_a_copy_that_nothing_describes_is_intact(run_folder: Path, tmp_path: Path) -> None:
    """Elsewhere and under another name there is nothing to compare with, which is said and no problem."""
    dataset = sorted((run_folder / "datasets").glob("*.zarr"))[0]
    note = "states a digest to compare with"
    code, output = call("verify", dataset)
    assert (code, note in output) == (0, False)
    copy = shutil.copytree(dataset, tmp_path / "copy" / "heads.zarr")
    code, output = call("verify", copy)
    assert (code, note in output, "intact" in output) == (0, True, True)
    assert note not in call("verify", copy, "--digest", read_manifest(copy).digest)[1]


def test_litter_is_no_damage(run_folder: Path) -> None:
    """Files and folders of operating systems and file servers are no problems, in any folder of a dataset."""
    dataset = sorted((run_folder / "datasets").glob("*.zarr"))[0]
    for name in (CASES / "zarr_litter" / "names.txt").read_text(encoding="utf-8").splitlines():
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_bytes(b"litter")
    code, output = call("verify", dataset)
    assert (code, "intact" in output) == (0, True)
    (dataset / "rgb" / "notes.txt").write_bytes(b"no litter")
    assert call("verify", dataset)[0] == 1


def test_export_and_import(run_folder: Path, tmp_path: Path) -> None:
    """An exported and imported dataset keeps its digest; wrong options are refused."""
    dataset = sorted((run_folder / "datasets").glob("*.zarr"))[0]
    assert call("export", dataset, "--as", "webdataset", "--to", tmp_path / "tars")[0] == 0
    code, output = call("import", tmp_path / "tars", "--from", "webdataset", "--to", tmp_path / "x.zarr")
    assert code == 0
    assert f"digest     {dataset.stem}" in output
    assert call("export", dataset, "--as", "nerfstudio", "--to", tmp_path / "scene")[0] == 2
    assert call("export", dataset, "--as", "zip", "--to", tmp_path / "zip")[0] == 2
    assert call("import", tmp_path / "tars", "--from", "nerfstudio", "--to", tmp_path / "y.zarr")[0] == 2
