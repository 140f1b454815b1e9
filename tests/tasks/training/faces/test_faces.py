"""Pictures of faces from outside: the same samples from a folder, zip files and tar files, and training on them."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.chain.plan import plan_trainings
from spinmeround.tasks.training.data.feed import BatchFeed
from spinmeround.tasks.training.faces.pictures import FaceArrays, FacePictures
from spinmeround.tasks.training.faces.plan import STAGE, FaceShard, plan_faces
from spinmeround.tasks.training.faces.prepare import make_faces
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase, FacesParams
from tests.support.packs import write_pack
from tests.support.weights import write_recognition

MakeTrainParams = Callable[..., TrainParams]


def _files() -> dict[str, bytes]:
    """Three people with two pictures each, one of them with an embedding beside it, and a file that is no picture."""
    files: dict[str, bytes] = {}
    for number in range(6):
        draw = np.random.default_rng(number)
        stream = io.BytesIO()
        pixels = draw.integers(0, 255, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(stream, "PNG")
        files[f"person{number // 2}/{number % 2}.png"] = stream.getvalue()
    stream = io.BytesIO()
    np.save(stream, np.full(512, 2.0))
    return {**files, "person0/0.npy": stream.getvalue(), "person0/about.txt": b"nothing"}


def _write(kind: str, root: Path, files: dict[str, bytes]) -> Path:
    """The files as a folder, a zip file, or tar files."""
    root.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(root / "faces.zip", "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return root / "faces.zip"
    if kind == "tars":
        for shard, names in enumerate((sorted(files)[:4], sorted(files)[4:])):
            with tarfile.open(root / f"{shard}.tar", "w") as archive:
                for name in names:
                    member = tarfile.TarInfo(name)
                    member.size = len(files[name])
                    archive.addfile(member, io.BytesIO(files[name]))
        return root
    for name, data in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def embed(tmp_path: Path) -> EmbedParams:
    return EmbedParams(recognition=str(write_recognition(tmp_path / "recognition.onnx")))


@pytest.fixture
def make_params(train_params: MakeTrainParams) -> Callable[..., TrainParams]:
    """Two steps of `adapt` on a source of aligned pictures."""

    def make(source: Path, **changes: Any) -> TrainParams:
        faces = FacesParams(**{"source": str(source), "landmarks": "aligned", **changes})
        alone = {name: getattr(train_params(), name).model_copy(update={"steps": 0}) for name in ("multi_view",)}
        return train_params(adapt=AdaptPhase(steps=2, faces=faces), **alone)

    return make


def _prepared(store: ArtifactStore, shards: list[FaceShard]) -> list[FaceArrays]:
    for shard in shards:
        make_faces(store, shard)
    return [FaceArrays.open(store.verify(STAGE, shard.key).path) for shard in shards]


def test_every_kind_of_source_gives_the_same_pictures(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """A folder, a zip file and two tar files: equal names, embeddings and latents; a given embedding is normalised."""
    found = {}
    for kind in ("folder", "zip", "tars"):
        source = _write(kind, tmp_path / kind, _files())
        shards = _prepared(
            ArtifactStore(tmp_path / f"{kind} store"), plan_faces(make_params(source), embed, encode_params)
        )
        assert len(shards) == (2 if kind == "tars" else 1)
        found[kind] = {
            name: (shard.identities[row].tobytes(), shard.latents[row].tobytes())
            for shard in shards
            for row, name in enumerate(shard.about["names"])
        }
    assert len(found["folder"]) == 6
    assert found["folder"] == found["zip"] == found["tars"]
    given, computed = (np.frombuffer(found["zip"][name][0], "<f4") for name in ("person0/0.png", "person0/1.png"))
    np.testing.assert_allclose(given, 512**-0.5, rtol=1e-6)
    assert np.linalg.norm(computed) == pytest.approx(1, abs=1e-5)
    assert np.ptp(computed) > 0


def test_keys_hold_the_pictures_and_not_their_place(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """A copy has the same keys, another picture gives another one, and so does another network."""

    def key(source: Path, embed: EmbedParams = embed) -> str:
        (shard,) = plan_faces(make_params(source), embed, encode_params)
        return shard.key

    files = _files()
    here, there = (_write("zip", tmp_path / name, files) for name in ("here", "there"))
    assert key(here) == key(there)
    changed = {**files, "person1/0.png": files["person1/1.png"]}
    assert key(_write("zip", tmp_path / "changed", changed)) != key(here)
    other = EmbedParams(recognition=str(write_recognition(tmp_path / "other.onnx", seed=1)))
    assert key(here, other) != key(here)


def test_of_a_larger_source_the_choice_does_not_depend_on_its_files(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """Three of six pictures: the same ones from one zip file and from a zip file for each person; two of them are those
    of a smaller choice."""
    files = _files()
    together, apart = _write("zip", tmp_path / "together", files), tmp_path / "apart"
    for person in ("person2", "person0", "person1"):
        part = {name: data for name, data in files.items() if name.startswith(person)}
        _write("zip", tmp_path / person, part)
    apart.mkdir()
    for number, person in enumerate(("person2", "person0", "person1")):
        (tmp_path / person / "faces.zip").rename(apart / f"{number}.zip")

    def chosen(source: Path, most: int) -> set[str]:
        shards = plan_faces(make_params(source, most=most), embed, encode_params)
        return {face.name for shard in shards for face in shard.faces}

    assert len(chosen(together, 3)) == 3
    assert chosen(apart, 3) == chosen(together, 3)
    assert chosen(together, 2) < chosen(together, 3)
    assert len(chosen(together, 100)) == 6


def test_pictures_that_cannot_be_used_are_dropped_with_their_reasons(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """No picture, not square, and a defective embedding: each is named; too many of them end the training."""
    files = _files()
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 36, 3), np.uint8)).save(stream, "PNG")
    files |= {"a/broken.png": b"PNG", "a/wide.png": stream.getvalue(), "person0/0.npy": b"npy"}
    source = _write("zip", tmp_path / "zip", files)
    store, params = ArtifactStore(tmp_path / "store"), make_params(source)
    (arrays,) = _prepared(store, plan_faces(params, embed, encode_params))
    dropped = arrays.about["dropped"]
    assert set(dropped) == {"a/broken.png", "a/wide.png", "person0/0.png"}
    assert dropped["a/wide.png"].startswith("expected a square picture")
    assert "expected a .npy file with 512 numbers" in dropped["person0/0.png"]
    folders = [store.verify(STAGE, shard.key).path for shard in plan_faces(params, embed, encode_params)]
    with pytest.raises(SpinMeRoundError, match=r"at most 10% of the pictures to be dropped, found 3 of 8, 1 of them"):
        FacePictures(folders, make_params(source, most_dropped=0.1))
    assert len(FacePictures(folders, params)) == 5


def test_faces_are_detected_where_they_are_not_aligned(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """Without a detector the error names both ways out; with one of random weights, pictures without a face are
    dropped."""
    source = _write("folder", tmp_path / "folder", _files())
    params = make_params(source, landmarks="detector")
    with pytest.raises(ConfigError, match=r"expected a face detector in embed\.pack.*landmarks=aligned"):
        plan_faces(params, embed, encode_params)
    detecting = embed.model_copy(update={"pack": str(write_pack(tmp_path / "pack"))})
    shards = plan_faces(params, detecting, encode_params)
    assert shards[0].key != plan_faces(make_params(source), embed, encode_params)[0].key
    (arrays,) = _prepared(ArtifactStore(tmp_path / "store"), shards)
    assert arrays.about["count"] + len(arrays.about["dropped"]) == 6
    assert "person0/0.png" in arrays.about["names"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", r"expected a folder, a \.zip or a \.tar file at .*nowhere"),
        (lambda root: _write("folder", root / "empty", {}), "expected pictures .*found none"),
        (lambda root: _write("folder", root / "odd", {"faces.zip": b"PK"}), "expected a complete zip file"),
        (lambda root: _write("folder", root / "odd", {"faces.tar": b"tar"}), "expected a complete tar file"),
    ],
    ids=["missing", "empty", "zip", "tar"],
)
def test_sources_without_pictures_are_named(
    make: Callable[[Path], Path],
    message: str,
    make_params: Callable[..., TrainParams],
    embed: EmbedParams,
    encode_params: EncodeParams,
    tmp_path: Path,
) -> None:
    """The error has the field and the file."""
    with pytest.raises(ConfigError, match=rf"train\.adapt\.faces\.source: .*{message}"):
        plan_faces(make_params(make(tmp_path)), embed, encode_params)


def test_adapt_trains_on_them(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """Without a dataset; the key of the training holds the keys of the shards."""
    source = _write("tars", tmp_path / "tars", _files())
    store, params = ArtifactStore(tmp_path / "store"), make_params(source)
    shards = plan_faces(params, embed, encode_params)
    _prepared(store, shards)
    keys = [shard.key for shard in shards]
    (planned,) = plan_trainings(None, params, encode_params, keys)
    outcome, key, result = make_training(store, keys, planned.params, encode_params, tmp_path / "training")
    assert (outcome, key, result.steps, result.pipeline) == ("made", planned.key, 2, None)
    assert {f"faces {number}": each for number, each in enumerate(keys)} == store.manifest("adapt", key).inputs
    record = json.loads((store.verify("adapt", key).path / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["loss_image"] == pytest.approx(record["loss"])
    assert "loss_normals" not in record


def test_pictures_are_divided_and_made_ahead_as_groups_of_heads_are(
    make_params: Callable[..., TrainParams], embed: EmbedParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """The shares of two processes are the whole batch, in order; the feed has the batches of their steps."""
    params = make_params(_write("tars", tmp_path / "tars", _files())).model_copy(update={"batch": 4})
    shards, store = plan_faces(params, embed, encode_params), ArtifactStore(tmp_path / "store")
    _prepared(store, shards)
    folders = [store.verify(STAGE, shard.key).path for shard in shards]
    whole = FacePictures(folders, params).read(1)
    assert whole.latents.shape == (4, 1, 4, 2, 2)
    halves = [FacePictures(folders, params, share).read(1) for share in (lambda n: range(2), lambda n: range(2, n))]
    assert [index for half in halves for index in half.indices] == [0, 1, 2, 3]
    assert {half.batch for half in halves} == {4}
    assert tuple(name for half in halves for name in half.heads) == whole.heads
    for name in ("latents", "identity"):
        assert torch.equal(torch.cat([getattr(half, name) for half in halves]), getattr(whole, name))
    with BatchFeed(FacePictures(folders, params), steps=2, ahead=1, workers=1) as feed:
        assert torch.equal(feed.batch(1).latents, whole.latents)
    assert FacePictures(folders, params, lambda n: range(1)).described(1) == "pictures: " + ", ".join(whole.heads)
