"""Other readers of Zarr v3 open what this package publishes, and find the same values in every array."""

import base64
import json
import shutil
import subprocess
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from spinmeround.storage.dataset import HeadDataset, add_latents, publish
from spinmeround.storage.dataset.schema import ARRAYS, LATENT_ARRAYS
from tests.support.heads import write_all_latents, write_heads

NAMES = [*ARRAYS, *(f"latents/{name}" for name in LATENT_ARRAYS)]

ZARRITA = """
import * as zarr from "zarrita";
import { FileSystemStore } from "@zarrita/storage";
const found = {};
for (const name of JSON.parse(process.argv[2])) {
  if (name.startsWith("latents") && typeof Float16Array === "undefined") continue;  // before node 24
  const array = await zarr.open.v3(new FileSystemStore(`${process.argv[1]}/${name}`), { kind: "array" });
  const { data, shape, stride } = await zarr.get(array);
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  found[name] = { shape, stride, bytes: bytes.toString("base64") };
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    heads = write_heads(folder / "heads", range(3))
    path = publish(folder / "datasets", heads, {}).path
    add_latents(path, write_all_latents(folder / "latents", [head.id for head in heads]), "autoencoder")
    return path


@pytest.fixture(scope="module")
def expected(published: Path) -> Mapping[str, np.ndarray]:
    """All arrays as this package reads them."""
    data = HeadDataset.open(published)
    per_view = ["rgb", "normals", "mask", "identity_views", "latents/rgb", "latents/normals"]
    heads = [data.read_views(subject, range(data.views), per_view) for subject in range(len(data))]
    arrays = {name: np.stack([head[name] for head in heads]) for name in per_view}
    small = {name: np.stack([data.row(name, subject) for subject in range(len(data))]) for name in ("seed", "status")}
    cameras = [data.cameras(subject) for subject in range(len(data))]
    small |= {name: np.stack([each[name] for each in cameras]) for name in ("cam2world", "intrinsics")}
    angles = {"azimuth": cameras[0]["azimuth_deg"], "elevation": cameras[0]["elevation_deg"]}
    return arrays | small | angles | {"identity": data.identities}


def zarr_python(path: Path) -> Iterator[tuple[str, Any]]:
    group = zarr.open_group(path, mode="r")
    return ((name, group[name][...]) for name in NAMES)


def tensorstore(path: Path) -> Iterator[tuple[str, Any]]:
    library = pytest.importorskip("tensorstore")
    for name in NAMES:
        place = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / name)}}
        yield name, library.open(place, open=True).result().read().result()


def zarrs(path: Path) -> Iterator[tuple[str, Any]]:
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        group = zarr.open_group(path, mode="r")
        for name in NAMES:
            assert type(group[name]._async_array.codec_pipeline).__module__.startswith("zarrs")
            yield name, group[name][...]


def xarray(path: Path) -> Iterator[tuple[str, Any]]:
    library = pytest.importorskip("xarray")
    options: dict[str, Any] = {"engine": "zarr", "consolidated": False, "zarr_format": 3, "mask_and_scale": False}
    warnings.filterwarnings("ignore", "Object at (manifest.json|listing) is not recognized")
    with library.open_dataset(path, **options) as heads, library.open_dataset(path / "latents", **options) as latents:
        assert heads.rgb.dims == ("subject", "view", "height", "width", "channel")
        for name in ARRAYS:
            yield name, heads[name].to_numpy()
        for name in LATENT_ARRAYS:
            yield f"latents/{name}", latents[name].to_numpy()


def zarrita(path: Path) -> Iterator[tuple[str, Any]]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    modules = Path(__file__).parents[3] / "node_modules"
    if not (modules / "zarrita").is_dir():
        pytest.skip(f"zarrita is not in {modules}: npm install --no-save zarrita @zarrita/storage")
    command = [node, "--input-type=module", "-e", textwrap.dedent(ZARRITA), str(path), json.dumps(NAMES)]
    done = subprocess.run(command, cwd=modules.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout).items():
        dtype = (LATENT_ARRAYS[name.removeprefix("latents/")] if "/" in name else ARRAYS[name]).dtype
        data = np.frombuffer(base64.b64decode(found["bytes"]), dtype)
        strides = [step * data.itemsize for step in found["stride"]]
        yield name, np.lib.stride_tricks.as_strided(data, found["shape"], strides)


@pytest.mark.parametrize("reader", [zarr_python, tensorstore, zarrs, xarray], ids=lambda each: each.__name__)
def test_another_reader_finds_the_same_values(
    reader: Callable[[Path], Iterator[tuple[str, Any]]], published: Path, expected: Mapping[str, np.ndarray]
) -> None:
    """Pixels, small arrays and latents equal what this package reads, with type and shape."""
    assert same_values(reader(published), expected) == set(NAMES)


def test_zarrita_finds_the_same_values(published: Path, expected: Mapping[str, np.ndarray]) -> None:
    """In JavaScript too: all arrays, without the float16 of the latents where node does not have the type."""
    seen = same_values(zarrita(published), expected)
    assert seen in (set(NAMES), set(ARRAYS))


def same_values(arrays: Iterator[tuple[str, Any]], expected: Mapping[str, np.ndarray]) -> set[str]:
    """The names of the arrays, all of which equal the expected ones."""
    seen = set()
    for name, found in arrays:
        assert (found.dtype, found.shape) == (expected[name].dtype, expected[name].shape), name
        np.testing.assert_array_equal(found, expected[name], name)
        seen.add(name)
    return seen


def test_a_name_of_an_axis_has_one_size(published: Path) -> None:
    """No two arrays of a group give different sizes to one dimension name."""
    for group, names in (("", ARRAYS), ("latents", LATENT_ARRAYS)):
        sizes: dict[str, int] = {}
        for name in names:
            found = json.loads((published / group / name / "zarr.json").read_text())
            for axis, size in zip(found["dimension_names"], found["shape"], strict=True):
                assert sizes.setdefault(axis, size) == size, (name, axis)
