"""`verify` reports each kind of damage with head and array; hostile datasets are refused."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinmeround.storage.dataset import HeadDataset, HeadEntry, add_latents, info, publish, verify, write_head
from spinmeround.storage.errors import DatasetError, SpinMeRoundError
from spinmeround.storage.manifests import FileRecord
from tests.support.heads import flip_bit, make_head, write_all_latents, write_heads
from tests.support.manifests import edit_listing


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published dataset of three heads with latents; tests do not change it."""
    root = tmp_path_factory.mktemp("pristine")
    heads = write_heads(root / "heads", range(3))
    path = publish(root / "datasets", heads, {}).path
    add_latents(path, write_all_latents(root / "latents", [head.id for head in heads]), "autoencoder")
    return path


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(pristine, tmp_path / "x.zarr"))


def found(path: Path) -> set[tuple[str, str]]:
    return {(problem.head, problem.array) for problem in verify(path)}


def test_intact_dataset_has_no_problems(dataset: Path) -> None:
    """A published dataset has no problems, nor has a copy of it."""
    assert verify(dataset) == []


ONE, ALL = "procedural-000001", "procedural-000000 to procedural-000002"


@pytest.mark.parametrize(
    ("file", "head", "array"),
    [
        ("rgb/c.1.0.0.0.0", ONE, "rgb"),
        ("normals/c.1.0.0.0.0", ONE, "normals"),
        ("mask/c.1.0.0.0", ONE, "mask"),
        ("identity_views/c.1.0.0", ONE, "identity_views"),
        ("cam2world/c.0.0.0.0", ALL, "cam2world"),
        ("identity/c.0.0", ALL, "identity"),
        ("seed/c.0", ALL, "seed"),
        ("azimuth/c.0", "", "azimuth"),
        ("latents/normals/c.1.0.0.0.0", ONE, "latents/normals"),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_damaged_files_are_found(dataset: Path, file: str, head: str, array: str, damage: str) -> None:
    """A flipped bit, a truncated and a missing file are reported with head and array, and nothing else is."""
    if damage == "flipped":
        flip_bit(dataset / file, 0.9)
    elif damage == "truncated":
        (dataset / file).write_bytes((dataset / file).read_bytes()[:-1])
    else:
        (dataset / file).unlink()
    assert found(dataset) == {(head, array)}


def test_all_problems_are_reported(dataset: Path) -> None:
    """Damage in several heads is reported at once."""
    flip_bit(dataset / "rgb/c.0.0.0.0.0")
    flip_bit(dataset / "mask/c.2.0.0.0")
    assert found(dataset) == {("procedural-000000", "rgb"), ("procedural-000002", "mask")}
    assert (
        str(verify(dataset)[0]) == "head procedural-000000 rgb: rgb/c.0.0.0.0.0: its content does not match its SHA-256"
    )


def _changed(**changes: Callable[[np.ndarray], None]) -> Callable[[Any], dict[str, np.ndarray]]:
    def apply(head: Any) -> dict[str, np.ndarray]:
        arrays = {name: getattr(head, name).copy() for name in changes}
        for name, change in changes.items():
            change(arrays[name])
        return arrays

    return apply


def _set(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    return lambda array: array.__setitem__(index, value)


@pytest.mark.parametrize(
    ("changes", "array", "what"),
    [
        (_changed(rgb=_set((2, 0, 0), (255, 0, 255))), "rgb", "expected white where the mask is 0, 1 pixels"),
        (_changed(normals=_set((3, 0, 0), 127)), "normals", "where the mask is 0, 1 pixels"),
        (_changed(normals=_set((1, 4, 4), (255, 255, 255))), "normals", "mask is not 0, 1 pixels .*is 1"),
        (_changed(normals=_set((1, 4, 4), 128)), "normals", "unit length where the mask is not 0, 1 pixels"),
        (_changed(mask=_set((1, 4, 4), 0)), "rgb|normals", "where the mask is 0"),
        (_changed(intrinsics=_set((0, 2, 0), 1.0)), "intrinsics", "last row"),
        (
            _changed(identity=lambda array: np.negative(array, out=array)),
            "identity",
            "normalised mean of identity_views",
        ),
        (_changed(cam2world=_set((1, 0, 0), 2.0)), "cam2world", "expected rigid transforms .*first is 1"),
        (_changed(cam2world=lambda array: np.negative(array[0, :3, 0], out=array[0, :3, 0])), "cam2world", "rigid"),
        (_changed(cam2world=_set((1, 0, 3), np.nan)), "cam2world", "rigid"),
        (_changed(intrinsics=_set((0, 0, 0), -1.0)), "intrinsics", "positive focal"),
        (_changed(identity=_set(slice(None), 1.0)), "identity", "expected unit length, found 22.6"),
        (_changed(identity_views=_set((0, 5), np.nan)), "identity_views", "all NaN"),
    ],
    ids=[
        "rgb",
        "normals",
        "long normal",
        "no normal",
        "mask",
        "intrinsics",
        "not the mean",
        "scaled",
        "mirrored",
        "nan position",
        "focal",
        "identity",
        "half nan",
    ],
)
def test_inconsistent_arrays_are_found(
    tmp_path: Path, changes: Any, array: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that match the manifest may be wrong: masks, normals, cameras and embeddings are checked, also those of
    software that let numbers through that are not finite."""
    monkeypatch.setattr("spinmeround.storage.dataset.head_group.check_numbers", lambda *arguments: None)
    heads = write_heads(tmp_path / "heads", range(2))
    odd = dataclasses.replace(make_head(5), **changes(make_head(5)))
    write_head(tmp_path / "heads" / odd.id, odd)
    path = publish(tmp_path / "datasets", [*heads, HeadEntry(id=odd.id, folder=tmp_path / "heads" / odd.id)], {}).path
    problems = verify(path)
    assert {(problem.head, problem.array) for problem in problems} == {
        ("procedural-000005", name) for name in array.split("|")
    }
    for problem in problems:
        with pytest.raises(DatasetError, match=what):
            raise DatasetError(problem.what)


def test_wrong_digest_is_found(dataset: Path) -> None:
    """A digest that does not match the files of the dataset or of the latents is reported."""
    for folder in (dataset, dataset / "latents"):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest | {"digest": "0" * 64}))
    assert ["expected the digest" in problem.what for problem in verify(dataset)] == [True, True]


def test_extra_and_unlisted_files_are_found(dataset: Path) -> None:
    """Extra files, and files of the schema that the manifest does not list, are reported."""
    for extra in ("rgb/c.9.0.0.0.0", "rgb/c.9", "listing/heads-00001.txt"):
        (dataset / extra).write_text("extra")
    edit_listing(dataset, lambda records: records.pop("mask/c.1.0.0.0", None))
    edit_listing(dataset, lambda records: records.pop("seed/c.0", None))
    problems = " ".join(problem.what for problem in verify(dataset))
    for name in (*("rgb/c.9.0.0.0.0", "rgb/c.9", "listing/heads-00001.txt", "mask/c.1.0.0.0", "seed/c.0"),):
        assert f"{name} is not in manifest.json" in problems


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_latents_without_a_manifest_are_damaged(dataset: Path, kind: str) -> None:
    """They are not taken for absent while their folder holds other files; an empty folder or litter is no damage."""
    manifest = dataset / "latents" / "manifest.json"
    manifest.unlink()
    if kind == "folder":
        manifest.mkdir()
    (problem,) = verify(dataset)
    assert problem.file == "latents/manifest.json"
    assert "expected latents, found none (no file latents/manifest.json)" in problem.what
    shutil.rmtree(dataset / "latents")
    (dataset / "latents").mkdir()
    (dataset / "latents" / ".DS_Store").write_bytes(b"litter")
    assert verify(dataset) == []


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_an_index_of_versions_that_is_no_file_is_found(dataset: Path, kind: str) -> None:
    """It states nothing, which is a problem, unlike an index that is absent."""
    index = dataset.parent / "versions.json"
    if kind == "folder":
        index.mkdir()
    else:
        index.symlink_to("elsewhere.json")
    (problem,) = verify(dataset)
    assert "expected the index of versions, found a link, a folder or a special file" in problem.what


def test_edited_metadata_is_found(dataset: Path) -> None:
    """Edited metadata of a group or an array are reported, whether the dataset opens or not."""
    group = json.loads((dataset / "zarr.json").read_text())
    group["attributes"]["licence"] = "mine now"
    (dataset / "zarr.json").write_text(json.dumps(group))
    assert "zarr.json" in verify(dataset)[0].what
    (dataset / "mask" / "zarr.json").write_text("{")
    assert any(problem.array == "mask" for problem in verify(dataset))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.zarr/../../secret", "a/../b", "", "a\\b", "./a"])
def test_names_that_leave_the_folder_are_refused(dataset: Path, name: str) -> None:
    """A listing or a manifest with an absolute path or `..` is refused."""
    record = FileRecord(size=1, sha256="0" * 64)
    edit_listing(dataset, lambda records: records.update({name: record}))
    assert "expected lines of SHA-256, size and name" in verify(dataset)[0].what
    with pytest.raises(DatasetError, match="expected lines of SHA-256, size and name"):
        info(dataset)
    manifest = json.loads((dataset / "manifest.json").read_text())
    for version, field in ((1, "files"), (2, "parts")):
        hostile = {"schema_version": version, "digest": manifest["digest"], field: {name: dataclasses.asdict(record)}}
        (dataset / "manifest.json").write_text(json.dumps(hostile))
        assert "expected the manifest of a dataset" in verify(dataset)[0].what
        with pytest.raises(DatasetError, match="expected the manifest"):
            info(dataset)


def test_links_are_refused(dataset: Path, tmp_path: Path) -> None:
    """A shard or a folder that links outside the dataset is refused."""
    (dataset / "rgb/c.1.0.0.0.0").rename(tmp_path / "outside")
    (dataset / "rgb/c.1.0.0.0.0").symlink_to(tmp_path / "outside")
    assert (ONE, "rgb") in found(dataset)
    assert all("link" in problem.what for problem in verify(dataset))
    with pytest.raises(DatasetError, match="link"):
        HeadDataset.open(dataset).read_views(1, [0], ["rgb"])


def _edit_array(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metadata: metadata.update(changes)


def _pickle_codec(metadata: dict[str, Any]) -> None:
    metadata["codecs"][0]["configuration"]["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_pickle_codec, id="pickle codec"),
        pytest.param(_edit_array(data_type="variable_length_bytes"), id="objects"),
        pytest.param(_edit_array(shape=[3, 4, 10**9, 10**9, 3]), id="gigantic"),
        pytest.param(_edit_array(shape=[10**12, 4, 8, 8, 3]), id="gigantic subjects"),
        pytest.param(_edit_array(shape=[3, 4, -8, 8, 3]), id="negative"),
        pytest.param(_edit_array(shape=[3, 4, 8, 8]), id="fewer axes"),
        pytest.param(_edit_array(shape="huge"), id="no shape"),
        pytest.param(_edit_array(codecs="rot13"), id="no codecs"),
        pytest.param(_edit_array(zarr_format=2), id="old format"),
        pytest.param(_edit_array(storage_transformers=[{"name": "x"}]), id="transformer"),
        pytest.param(_edit_array(chunk_key_encoding={"name": "v2"}), id="other keys"),
    ],
)
def test_hostile_metadata_is_refused(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Codecs, types and sizes outside the schema are refused before anything is decoded or allocated."""
    path = dataset / "rgb" / "zarr.json"
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))
    with pytest.raises(DatasetError, match="rgb"):
        HeadDataset.open(dataset)
    assert verify(dataset)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        ({"schema_version": 2}, "use a newer version"),
        ({"schema_version": None}, "a dataset of `spinmeround build`"),
        ({"ids": "abc"}, "list of distinct strings"),
        ({"ids": ["a", "a", "b"]}, "list of distinct strings"),
        ({"ids": ["a"]}, "expected 3 ids, found 1"),
        ({"split": {"test": "half"}}, "attribute split"),
    ],
    ids=["newer", "no version", "text", "twice", "too few", "split"],
)
def test_invalid_group_attributes_are_refused(dataset: Path, attributes: dict[str, Any], what: str) -> None:
    """A newer schema and invalid attributes are refused when the dataset is opened."""
    group = json.loads((dataset / "zarr.json").read_text())
    group["attributes"].update(attributes)
    (dataset / "zarr.json").write_text(json.dumps(group))
    with pytest.raises(DatasetError, match=what):
        HeadDataset.open(dataset)
    assert verify(dataset)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        [
            *("zarr.json", "manifest.json", "listing/shared.txt", "listing/heads-00000.txt", "rgb/zarr.json"),
            *("seed/zarr.json", "rgb/c.1.0.0.0.0", "latents/zarr.json", "latents/listing/heads-00000.txt"),
        ]
    ),
    st.floats(0, 0.999),
    st.sampled_from([b"", b"{", b"}", b"null", b"1e999", b"[", b'"', b"-1", b"\xff", b"true", b"[]", b"{}", b"0"]),
    st.integers(0, 12),
)
def test_fuzzed_datasets_raise_only_our_errors(
    dataset: Path, file: str, position: float, patch: bytes, cut: int
) -> None:
    """With any bytes of metadata or shards replaced, readers work or raise errors of this package."""
    data = (dataset / file).read_bytes()
    at = int(position * len(data))
    (dataset / file).write_bytes(data[:at] + patch + data[at + cut :])
    problems = verify(dataset)
    with contextlib.suppress(SpinMeRoundError):
        opened = HeadDataset.open(dataset)
        opened.read_views(1, [0, 1], ["rgb", "mask", "latents/rgb"])
        assert len(opened.seeds) == len(opened)
        info(dataset)
    (dataset / file).write_bytes(data)
    assert problems or data == data[:at] + patch + data[at + cut :] or file == "manifest.json"


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    """A head with an array of another type is refused when it is published."""
    (head,) = write_heads(tmp_path / "heads", range(1))
    index = json.loads((head.folder / "arrays.json").read_text())
    index["arrays"]["seed"]["data_type"] = "float64"
    (head.folder / "arrays.json").write_text(json.dumps(index))
    with pytest.raises(DatasetError, match="seed: expected data type int64"):
        publish(tmp_path / "datasets", [head], {})


def test_missing_normals_must_be_declared(tmp_path: Path) -> None:
    """A head whose normals are background is a problem, unless the dataset lists it; then normals would be one."""
    heads = [make_head(seed) for seed in range(2)]
    heads[0] = dataclasses.replace(heads[0], normals=np.full_like(heads[0].normals, 128))
    entries = []
    for head in heads:
        write_head(tmp_path / head.id, head)
        entries.append(HeadEntry(id=head.id, folder=tmp_path / head.id))
    ids = [head.id for head in heads]
    declared = {
        name: publish(tmp_path / name, entries, {"without_normals": names}).path
        for name, names in (("none", []), ("first", ids[:1]), ("both", ids))
    }
    assert found(declared["none"]) == {(ids[0], "normals")}
    assert found(declared["first"]) == set()
    assert found(declared["both"]) == {(ids[1], "normals")}
    data = HeadDataset.open(declared["first"])
    assert [data.has_normals(subject) for subject in range(2)] == [False, True]


@pytest.mark.parametrize("value", ["procedural-000000", ["nobody"], [1]])
def test_a_wrong_declaration_of_missing_normals_is_refused(tmp_path: Path, value: object) -> None:
    """The attribute is a list of ids of the dataset's heads."""
    path = publish(tmp_path / "d", write_heads(tmp_path / "heads", range(2)), {"without_normals": value}).path
    with pytest.raises(DatasetError, match="without_normals: expected a list of ids"):
        HeadDataset.open(path)
