"""Export and import: round trips keep the digest, and the libraries of each format read the exports."""

import gc
import io
import json
import re
import shutil
import struct
import tarfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from spinmeround.storage.dataset import HeadDataset, publish
from spinmeround.storage.errors import ConfigError, DatasetError
from spinmeround.storage.manifests import record_files
from spinmeround.tasks.exchange.formats import new_folder
from spinmeround.tasks.exchange.huggingface import export_huggingface, import_huggingface
from spinmeround.tasks.exchange.nerfstudio import export_nerfstudio
from spinmeround.tasks.exchange.webdataset import export_webdataset, import_webdataset
from tests.support.heads import make_head, write_heads

EXPORTS = {"webdataset": export_webdataset, "huggingface": export_huggingface}
IMPORTS = {"webdataset": import_webdataset, "huggingface": import_huggingface}
ATTRIBUTES = {
    "licence": "CC0-1.0: nobody",
    "generator": {"name": "procedural"},
    "counts": {"asked": 7, "screened_out": {"shape": 1}},
    "split": {"validation": 0.2, "test": 0.3},
}


def no_progress(done: int, total: int) -> None:
    """A progress callback that does nothing."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> HeadDataset:
    """Five heads of four views."""
    root = tmp_path_factory.mktemp("dataset")
    return HeadDataset.open(publish(root / "datasets", write_heads(root / "heads", range(5)), ATTRIBUTES).path)


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory) -> Path:
    """The dataset in both formats, two heads per file."""
    root = tmp_path_factory.mktemp("exported")
    for name, export in EXPORTS.items():
        export(dataset, root / name, 2, no_progress)
    return root


@pytest.mark.parametrize("name", EXPORTS)
def test_round_trip_keeps_the_digest(dataset, exported, tmp_path, name):
    """Pixels, float32 cameras, embeddings with NaN rows, seeds and attributes are preserved exactly."""
    assert IMPORTS[name](exported / name, tmp_path / "back.zarr", no_progress) == dataset.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back.zarr"]


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_are_deterministic(dataset, exported, tmp_path, name):
    """The same dataset gives the same bytes."""
    EXPORTS[name](dataset, tmp_path / "again", 2, no_progress)
    assert record_files(tmp_path / "again") == record_files(exported / name)


def test_webdataset_reads_the_tars(exported):
    """The `webdataset` library yields one sample per head and decodes pictures and arrays."""
    import webdataset

    urls = sorted(str(path) for path in (exported / "webdataset").glob("*.tar"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves the tar files open
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
        gc.collect()
    assert [sample["__key__"] for sample in samples] == [f"procedural-{seed:06d}" for seed in range(5)]
    for seed, sample in enumerate(samples):
        head = make_head(seed)
        assert sample["json"]["seed"] == seed
        np.testing.assert_array_equal(sample["rgb_002.png"], head.rgb[2])
        np.testing.assert_array_equal(sample["normals_003.png"], head.normals[3])
        np.testing.assert_array_equal(sample["identity.npy"], head.identity)
        np.testing.assert_array_equal(np.float32(sample["json"]["cam2world"]), head.cam2world)


def test_datasets_reads_the_parquet_files(dataset, exported, tmp_path):
    """`datasets.load_dataset` finds the splits, decodes the pictures, and the card has a valid header."""
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    found = load_dataset(str(exported / "huggingface"), cache_dir=str(tmp_path / "cache"))
    assert {name: split["id"] for name, split in found.items()} == {
        name: [dataset.ids[subject] for subject in dataset.split(name)]
        for name in ("train", "validation", "test")
        if dataset.split(name)
    }
    row = found["train"][0]
    head = make_head(row["seed"])
    np.testing.assert_array_equal(np.asarray(row["rgb"][1]), head.rgb[1])
    np.testing.assert_array_equal(np.asarray(row["mask"][1]), head.mask[1])
    np.testing.assert_array_equal(np.float32(row["identity_views"]), head.identity_views)
    card = DatasetCard((exported / "huggingface" / "README.md").read_text())
    assert (card.data.license, card.data.license_name) == ("cc0-1.0", "CC0-1.0: nobody")
    assert card.data.size_categories == ["n<1K"]
    assert dataset.digest in card.text


def test_nerfstudio_cameras_project_the_head_onto_its_mask(tmp_path):
    """Points on the head project into its mask with the OpenGL cameras of the documented schema."""
    from spinmeround.models.geometry.cameras import ViewGrid
    from spinmeround.storage.dataset import HeadArrays, HeadEntry, write_head
    from tests.support.tiny import TinyGenerator

    generator, cameras = TinyGenerator(), ViewGrid(azimuths=5, elevations_deg=(-15.0, 20.0)).cameras()
    identity = generator.sample(3)
    drawn = generator.render(identity, cameras, 64)
    plain = make_head(3, views=10, side=64)
    head = HeadArrays(
        **{
            **vars(plain),
            "rgb": drawn.rgb,
            "mask": drawn.mask,
            "cam2world": cameras.cam2world,
            "intrinsics": cameras.intrinsics,
        }
    )
    write_head(tmp_path / "head", head)
    dataset = HeadDataset.open(publish(tmp_path / "d", [HeadEntry(id=head.id, folder=tmp_path / "head")], {}).path)
    export_nerfstudio(dataset, head.id, tmp_path / "scene", no_progress)
    document = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    directions = np.random.default_rng(0).normal(size=(40000, 3))
    surface = directions / np.linalg.norm(directions, axis=1, keepdims=True) * generator._axes(identity)
    assert len(document["frames"]) == 10
    for view, frame in enumerate(document["frames"]):
        image = np.asarray(Image.open(tmp_path / "scene" / frame["file_path"]))
        assert image.shape == (frame["h"], frame["w"], 4)
        world2cam = np.linalg.inv(np.asarray(frame["transform_matrix"]))
        x, y, z = world2cam[:3, :3] @ surface.T + world2cam[:3, 3:]
        assert (z < 0).all()  # OpenGL looks along -z
        column = np.floor(frame["cx"] + frame["fl_x"] * x / -z).astype(int)
        row = np.floor(frame["cy"] - frame["fl_y"] * y / -z).astype(int)
        hit = np.zeros(image.shape[:2], bool)
        hit[row.clip(0, 63), column.clip(0, 63)] = True
        assert ndimage.binary_dilation(image[..., 3] > 0, structure=np.ones((3, 3)))[hit].all()
        assert (hit & (image[..., 3] > 0)).sum() > 0.9 * (image[..., 3] > 0).sum()
        share = image[..., 3:].astype(float) / 255
        again = np.round(image[..., :3] * share + 255 * (1 - share))
        np.testing.assert_allclose(again, head.rgb[view], atol=2)
        normals = np.asarray(Image.open(tmp_path / "scene" / frame["normals_file_path"]))
        np.testing.assert_array_equal(normals, head.normals[view])


@pytest.mark.filterwarnings("ignore")
def test_nerfstudio_parser_reads_the_export(dataset, tmp_path):
    """If nerfstudio is installed, its parser returns the written pictures, poses and focal lengths."""
    parsers = pytest.importorskip("nerfstudio.data.dataparsers.nerfstudio_dataparser")
    head = dataset.ids[0]
    export_nerfstudio(dataset, head, tmp_path / "scene", no_progress)
    as_written = {"orientation_method": "none", "center_method": "none", "auto_scale_poses": False, "eval_mode": "all"}
    config = parsers.NerfstudioDataParserConfig(
        data=tmp_path / "scene", downscale_factor=1, load_3D_points=False, **as_written
    )
    found = config.setup().get_dataparser_outputs("train")
    document = json.loads((tmp_path / "scene" / "transforms.json").read_text())
    frames = {frame["file_path"]: frame for frame in document["frames"]}
    assert len(found.image_filenames) == len(frames) == dataset.views
    for file, pose, fx in zip(
        found.image_filenames, found.cameras.camera_to_worlds, found.cameras.fx.flatten(), strict=True
    ):
        frame = frames[file.relative_to(tmp_path / "scene").as_posix()]
        np.testing.assert_allclose(pose.numpy(), np.array(frame["transform_matrix"])[:3], atol=1e-6)
        assert float(fx) == pytest.approx(frame["fl_x"])


def test_existing_targets_are_refused(dataset, exported, tmp_path):
    """Exports and imports overwrite nothing, not even an empty folder, and leave nothing behind on failure."""
    (tmp_path / "there").mkdir()
    for act in (
        lambda: export_webdataset(dataset, tmp_path / "there", 2, no_progress),
        lambda: export_nerfstudio(dataset, dataset.ids[0], tmp_path / "there", no_progress),
        lambda: import_webdataset(exported / "webdataset", tmp_path / "there", no_progress),
    ):
        with pytest.raises(ConfigError, match="expected a path that does not exist"):
            act()
    with pytest.raises(ConfigError, match="expected an existing parent folder"):
        export_webdataset(dataset, tmp_path / "a" / "b", 2, no_progress)
    with pytest.raises(ConfigError, match="expected the id of one of 5 heads"):
        export_nerfstudio(dataset, "nobody", tmp_path / "x", no_progress)
    with pytest.raises(FileNotFoundError), new_folder(tmp_path / "half") as folder:
        (folder / "part" / "of" / "it").write_text("half")
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["there"]


def _rewritten(source: Path, target: Path, change) -> Path:
    """A copy of a WebDataset export with each member replaced by `change(name, data)`."""
    target.mkdir()
    (target / "dataset.json").write_bytes((source / "dataset.json").read_bytes())
    for shard in source.glob("*.tar"):
        with tarfile.open(shard) as old, tarfile.open(target / shard.name, "w") as new:
            for member in old:
                name, data = change(member.name, old.extractfile(member).read())
                info = tarfile.TarInfo(name)
                info.size = len(data)
                new.addfile(info, io.BytesIO(data))
    return target


def _pickle() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _huge_npy() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    return stream.getvalue()


def _png_with_chunk(kind: bytes, content: bytes) -> bytes:
    """A grey 8 x 8 PNG with a chunk after its header."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "grey").save(stream, "PNG")
    data, end = stream.getvalue(), 8 + 25  # signature and IHDR
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return data[:end] + chunk + data[end:]


def _bomb() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (12000, 9000), "white").save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("part", "data", "what"),
    [
        ("identity.npy", _pickle(), "expected float32"),
        ("identity.npy", _huge_npy(), "expected float32"),
        ("identity.npy", b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((", "expected a NumPy file"),
        ("identity.npy", b"\x93NUMPY\x01\x00\x00\x20" + b"(" * 8192, "expected a NumPy file"),
        ("rgb_000.png", _bomb(), "expected 8 x 8 RGB"),
        ("mask_001.png", b"GIF89a", "expected a PNG"),
        ("rgb_000.png", _png_with_chunk(b"iCCP", b""), "expected a PNG"),
        ("json", b"{" * 5000, "expected JSON"),
        ("json", b'{"seed": 1, "cam2world": "x"}', "cam2world"),
        ("json", b'{"seed": 1e999}', "seed"),
    ],
    ids=[
        "pickle",
        "huge array",
        "half a header",
        "nested header",
        "bomb",
        "other picture",
        "colour profile that ends",
        "nested",
        "no camera",
        "no seed",
    ],
)
def test_hostile_parts_are_refused(exported, tmp_path, part, data, what):
    """Pickles, huge declared sizes, decompression bombs and files of another type raise errors."""
    hostile = _rewritten(
        exported / "webdataset",
        tmp_path / "hostile",
        lambda name, old: (name, data if name.endswith(f"000001.{part}") else old),
    )
    with pytest.raises(DatasetError, match=what):
        import_webdataset(hostile, tmp_path / "x.zarr", no_progress)
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize("column", ["id", "bytes"])
def test_parquet_with_text_that_is_not_utf8_is_refused(exported, tmp_path, column):
    """pyarrow reads text and column names without a check; Python's UnicodeDecodeError never reaches the user."""
    source = tmp_path / "hub"
    shutil.copytree(exported / "huggingface", source)
    path = min((source / "data").glob("*.parquet"))
    text = b"procedural-00000" if column == "id" else b"bytes"
    path.write_bytes(path.read_bytes().replace(text, b"\xff" * len(text)))
    with pytest.raises(DatasetError, match=re.escape(path.name)):
        import_huggingface(source, tmp_path / "back.zarr", no_progress)


@pytest.mark.parametrize("prefix", ["../../etc/", "/etc/", "a/"])
def test_hostile_names_are_refused(exported, tmp_path, prefix):
    """Names in a tar that point outside the folder never become files."""
    hostile = _rewritten(exported / "webdataset", tmp_path / "hostile", lambda name, old: (prefix + name, old))
    with pytest.raises(DatasetError, match="head '"):
        import_webdataset(hostile, tmp_path / "x.zarr", no_progress)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["hostile"]


def test_inconsistent_heads_are_refused(exported, tmp_path):
    """Valid parts that contradict each other make no dataset."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(stream, "PNG")
    hostile = _rewritten(
        exported / "webdataset",
        tmp_path / "hostile",
        lambda name, old: (name, stream.getvalue() if name.endswith("mask_000.png") else old),
    )
    with pytest.raises(DatasetError, match="expected a consistent dataset"):
        import_webdataset(hostile, tmp_path / "x.zarr", no_progress)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 2}', '{"digest": 1}'])
def test_invalid_sidecars_are_refused(exported, tmp_path, text):
    """An export needs a valid `dataset.json` of a supported schema version."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "dataset.json").write_text(text)
    for read in IMPORTS.values():
        with pytest.raises(DatasetError, match=r"dataset\.json"):
            read(tmp_path / "x", tmp_path / "y.zarr", no_progress)
