"""Hostile datasets: zip bombs, links, false metadata. Readers refuse them with user errors and allocate nothing."""

import contextlib
import copy
import json
import os
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from spinmeround.storage.dataset import (
    HeadDataset,
    add_latents,
    diff_datasets,
    info,
    list_versions,
    publish,
    read_manifest,
    record_version,
    verify,
)
from spinmeround.storage.errors import DatasetError, SpinMeRoundError
from tests.support.heads import write_all_latents, write_heads
from tests.support.manifests import believed, names
from tests.support.processes import Result, result_of

FUZZ_SECONDS = float(os.environ.get("SPINMEROUND_FUZZ_SECONDS", "600"))
BOMB_BYTES = 32 * 2**20


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published dataset of two heads with latents; tests do not change it."""
    root = tmp_path_factory.mktemp("pristine")
    heads = write_heads(root / "heads", range(2))
    path = publish(root / "datasets", heads, {"generator": {"name": "procedural"}}).path
    add_latents(path, write_all_latents(root / "latents", [head.id for head in heads]), "autoencoder")
    return path


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "x.zarr"))


def _shard_of(chunk: bytes, views: int) -> bytes:
    """A shard that contains this chunk once for every view."""
    return _shard(chunk * views, [(view * len(chunk), len(chunk)) for view in range(views)])


def _shard(chunks: bytes, spans: list[tuple[int, int]]) -> bytes:
    index = b"".join(struct.pack("<QQ", *span) for span in spans)
    return chunks + index + struct.pack("<I", google_crc32c.value(index))


def _peak(act: Callable[[], Result]) -> tuple[int, Result]:
    """Peak memory of numpy and Python during a call, in bytes, and its result.

    Measured in a forked process, because the threads that other tests have left allocate memory too.
    """

    def measured() -> tuple[int, Result]:
        tracemalloc.start()
        result = act()
        return tracemalloc.get_traced_memory()[1], result

    return result_of(measured)


def _bomb(compressor: numcodecs.abc.Codec) -> bytes:
    """A chunk of 1 kB or few, with its checksum, that decodes to 32 MB of zeros."""
    body = bytes(compressor.encode(np.zeros(BOMB_BYTES, np.uint8)))
    return body + struct.pack("<I", google_crc32c.value(body))


@pytest.mark.parametrize(
    ("file", "array", "head"),
    [
        ("rgb/c.1.0.0.0.0", "rgb", "procedural-000001"),
        ("mask/c.1.0.0.0", "mask", "procedural-000001"),
        ("identity_views/c.1.0.0", "identity_views", "procedural-000001"),
        ("cam2world/c.0.0.0.0", "cam2world", "procedural-000000"),
    ],
)
def test_bombs_are_not_decoded(dataset: Path, file: str, array: str, head: str) -> None:
    """A chunk that would decode to more than the array's metadata imply is refused before decoding."""
    bomb = _bomb(numcodecs.Blosc("zstd", 5, 0, BOMB_BYTES) if array == "rgb" else numcodecs.Zstd(level=1))
    believed(dataset, file, _shard_of(bomb, 4) if array in ("rgb", "mask") else bomb)
    peak, found = _peak(lambda: verify(dataset, threads=1))
    assert peak < BOMB_BYTES / 4
    problems = [problem for problem in found if problem.array == array]
    assert problems[0].head == head
    assert "expected a chunk of" in problems[0].what


@pytest.mark.parametrize(
    "spans",
    [
        pytest.param([(0, 40)] * 4, id="one chunk for all views"),
        pytest.param([(0, 40), (40, 40), (80, 40), (119, 41)], id="one byte of two chunks"),
        pytest.param([(0, 160), (40, 40), (80, 40), (120, 40)], id="one chunk around the others"),
    ],
)
@pytest.mark.parametrize("array", ["rgb", "mask", "latents/rgb"])
def test_chunks_that_overlap_are_refused(dataset: Path, array: str, spans: list[tuple[int, int]]) -> None:
    """An index whose entries share bytes is refused before decoding: a small file could stand for any size."""
    (dataset / f"{array}/c.1.0.0.0{'' if array == 'mask' else '.0'}").write_bytes(_shard(bytes(160), spans))
    with pytest.raises(DatasetError, match="overlap"):
        HeadDataset.open(dataset).read_views(1, [0], [array])


@pytest.mark.parametrize("array", ["rgb", "latents/rgb"])
def test_shapes_beyond_the_files_are_refused(dataset: Path, array: str) -> None:
    """A shape that no file of this size can hold is refused when the dataset is opened, with nothing allocated."""
    group = "latents" if array.startswith("latents") else ""
    for name in names(dataset / group):
        if name.endswith("/zarr.json"):
            document = json.loads((dataset / group / name).read_bytes())
            _grow(document)
            believed(dataset / group, name, json.dumps(document).encode())
    peak, said = _peak(lambda: _refusal(lambda: HeadDataset.open(dataset).layout(array)))
    assert peak < BOMB_BYTES
    assert "expected at least" in said


def _refusal(act: Callable[[], object]) -> str:
    """The error with which a dataset is refused, empty if it is not."""
    try:
        act()
    except DatasetError as error:
        return str(error)
    return ""


def _grow(document: dict[str, Any]) -> None:
    """Enlarge the axes of views, heights and widths of an array."""
    sizes = {"view": 125, "height": 16384, "width": 16384, "latent_height": 16384, "latent_width": 16384}
    places = [document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]]
    if document["codecs"][0]["name"] == "sharding_indexed":
        places.append(document["codecs"][0]["configuration"]["chunk_shape"])
    names = document["dimension_names"]
    for shape in places:
        for axis, name in enumerate(names):
            shape[axis] = sizes.get(name, shape[axis]) if shape[axis] != 1 else 1


def test_too_little_memory_is_an_error_of_ours(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that does not fit into the memory is a DatasetError with the head and the array, not a MemoryError."""

    def refuse(*arguments: object) -> None:
        raise MemoryError

    opened = HeadDataset.open(dataset)
    monkeypatch.setattr(opened.memory, "empty", refuse)
    with pytest.raises(DatasetError, match="head procedural-000001: rgb: expected memory"):
        opened.read_views(1, [0], ["rgb"])


def test_linked_folders_are_refused(dataset: Path, tmp_path: Path) -> None:
    """The folder of an array, or a shard, that links outside the dataset is refused."""
    (dataset / "rgb").rename(tmp_path / "outside")
    (dataset / "rgb").symlink_to(tmp_path / "outside")
    assert any("link" in problem.what for problem in verify(dataset))
    (dataset / "rgb").unlink()
    (tmp_path / "outside").rename(dataset / "rgb")
    (dataset / "rgb/c.1.0.0.0.0").rename(tmp_path / "one")
    (dataset / "rgb/c.1.0.0.0.0").symlink_to(tmp_path / "one")
    assert any("link" in problem.what for problem in verify(dataset))
    with pytest.raises(DatasetError):
        HeadDataset.open(dataset).read_views(1, [0], ["rgb"])


@pytest.mark.parametrize("file", ["zarr.json", "manifest.json", "latents/zarr.json", "latents/manifest.json"])
def test_newer_schemas_are_refused(dataset: Path, file: str) -> None:
    """Metadata of a newer schema are reported, not interpreted."""
    found = json.loads((dataset / file).read_text())
    found.get("attributes", found)["schema_version"] = 3
    (dataset / file).write_text(json.dumps(found))
    problems = " ".join(problem.what for problem in verify(dataset))
    assert "newer version" in problems or file == "latents/zarr.json"
    assert problems


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "..", "/etc/passwd", "uint8", "object", "numcodecs.pickle", "zstd", "rgb", "NaN", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)
DOCUMENTS = [
    "zarr.json",
    "manifest.json",
    *(f"{name}/zarr.json" for name in ("rgb", "mask", "identity_views", "cam2world", "seed", "azimuth")),
    "latents/zarr.json",
    "latents/manifest.json",
    "latents/rgb/zarr.json",
]


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(place for key, each in inner for place in _places(each, (*here, key)))]


def _with(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    changed = copy.copy(value)
    changed[place[0]] = _with(value[place[0]], place[1:], new)
    return changed


def _use_everything(path: Path, intact: Path) -> None:
    """Call all readers; each may raise only errors of this package."""
    verify(path, threads=1)
    uses: list[Callable[[], object]] = [
        lambda: HeadDataset.open(path).read_views(1, [0, 3], ["rgb", "normals", "mask", "identity_views"]),
        lambda: HeadDataset.open(path).read_views(1, [0], ["latents/rgb"]),
        lambda: (HeadDataset.open(path).cameras(1), HeadDataset.open(path).identities),
        lambda: read_manifest(path),
        lambda: info(path),
        lambda: diff_datasets(intact, path),
    ]
    for use in uses:
        with contextlib.suppress(SpinMeRoundError):
            use()


def _fuzz(dataset: Path, pristine: Path) -> Callable[[], None]:
    texts = {name: (dataset / name).read_text() for name in DOCUMENTS}

    @given(st.data())
    def fuzz(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(DOCUMENTS))
        document = json.loads(texts[name])
        place = data.draw(st.sampled_from(_places(document)))
        (dataset / name).write_text(json.dumps(_with(document, place, data.draw(JSON))))
        try:
            _use_everything(dataset, pristine)
        finally:
            (dataset / name).write_text(texts[name])

    return fuzz


def _quiet(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def test_fuzzed_metadata_raise_only_our_errors(dataset: Path, pristine: Path) -> None:
    """With any value anywhere in a metadata file, readers work or raise errors of this package."""
    _quiet(40)(seed(0)(_fuzz(dataset, pristine)))()


@pytest.mark.slow
@pytest.mark.timeout(FUZZ_SECONDS + 300)
def test_long_fuzzing_raises_only_our_errors(dataset: Path, pristine: Path) -> None:
    """The same for ten minutes, or SPINMEROUND_FUZZ_SECONDS."""
    end, number = time.monotonic() + FUZZ_SECONDS, 1
    while time.monotonic() < end:
        _quiet(100)(seed(number)(_fuzz(dataset, pristine)))()
        number += 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzzed_indices_raise_only_our_errors(tmp_path: Path, data: st.DataObject) -> None:
    """The same for the index of versions."""
    path = tmp_path / "versions.json"
    path.unlink(missing_ok=True)
    record_version(tmp_path, "0" * 64, 1)
    record_version(tmp_path, "1" * 64, 2)
    document = json.loads(path.read_text())
    place = data.draw(st.sampled_from(_places(document)))
    path.write_text(json.dumps(_with(document, place, data.draw(JSON))))
    with contextlib.suppress(SpinMeRoundError):
        list_versions(tmp_path)
        record_version(tmp_path, "2" * 64, 3)
