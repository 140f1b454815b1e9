"""Arbitrary content of every small file that people give is read, or refused with an error of ours in a few lines.

Profiles, run markers, decisions, identities, labels of photos and configurations of weights.
"""

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinmeround.flows.profile import Profile, load_profile, validate_profile
from spinmeround.flows.run.folder import Place, open_run
from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.tasks.generation.inputs import photo_angles, read_identity
from spinmeround.tasks.generation.params import PhotoInput
from spinmeround.tasks.heads.encode import EncodeParams, latent_shape
from spinmeround.tasks.screening.decisions import GeneratorId, parse_decisions
from spinmeround.tasks.weights.inspect import inspect
from tests.support.junk import JSON, NAMES

GENERATOR = GeneratorId(name="tiny", fingerprint="tiny-1")
SECTIONS = st.sampled_from(list(Profile.model_fields))
FIELDS = st.one_of(NAMES, st.sampled_from(["resolution", "heads", "level", "limits", "elevations_deg", "options"]))
DECISIONS = {
    "schema_version": 1,
    "generator": {"name": "tiny", "fingerprint": "tiny-1"},
    "decisions": {"tiny-000001": {"decision": "keep", "note": "", "time": "2026-11-22T21:04:55Z"}},
    "reviewed": {},
}
quick = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def read_values(folder: Path, values: Any) -> None:
    """A profile's values."""
    validate_profile(values, source="fuzz")


def read_toml(folder: Path, data: bytes) -> None:
    """A profile's file."""
    (folder / "fuzz.toml").write_bytes(data)
    load_profile(str(folder / "fuzz.toml"))


def read_override(folder: Path, override: str) -> None:
    """`--set`."""
    load_profile("demo", [override])


def read_marker(folder: Path, data: bytes) -> None:
    """run.json: the folder of another run is refused, and the file is never overwritten."""
    marker = folder / "run" / "run.json"
    marker.parent.mkdir(exist_ok=True)
    marker.write_bytes(data)
    try:
        open_run(Place(out=str(marker.parent)), "tiny")
    finally:
        assert marker.read_bytes() == data


def read_decisions(folder: Path, data: bytes) -> None:
    """A decisions file."""
    assert parse_decisions(data, GENERATOR, folder / "decisions.json").generator.name == "tiny"


def read_identity_file(folder: Path, data: bytes) -> None:
    """`--identity`: what is accepted is a unit vector."""
    (folder / "fuzz.npy").write_bytes(data)
    assert abs(np.linalg.norm(read_identity(folder / "fuzz.npy").astype(np.float64)) - 1) < 1e-3


def read_label(folder: Path, data: bytes) -> None:
    """The label next to a photo."""
    (folder / "fuzz.json").write_bytes(data)
    assert all(abs(angle) <= 360 for angle in photo_angles(PhotoInput(file=str(folder / "fuzz.png"))))


def read_configuration(folder: Path, data: bytes) -> None:
    """config.json of an autoencoder, for its check and for the shape of its latents."""
    (folder / "config.json").write_bytes(data)
    (folder / "diffusion_pytorch_model.safetensors").touch()
    latent_shape(EncodeParams(autoencoder=str(folder)))
    inspect("sd15-vae", folder)


def as_bytes(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    text = values.map(lambda value: json.dumps(value).encode())
    return st.one_of(text, st.builds(lambda data, end: data[:end], text, st.integers(0, 300)), st.binary(max_size=200))


def changed(good: dict[str, Any]) -> st.SearchStrategy[Any]:
    """The valid document with a field replaced or added, or arbitrary JSON."""
    return st.one_of(
        st.builds(lambda name, value: {**good, name: value}, st.sampled_from([*good, "extra"]), JSON), JSON
    )


def toml_lines() -> st.SearchStrategy[bytes]:
    line = st.builds(
        lambda name, value: f"{name} = {json.dumps(value)}", st.sampled_from(["heads", "level", "name"]), JSON
    )
    table = st.builds(lambda section, lines: "\n".join([f"[{section}]", *lines]), SECTIONS, st.lists(line, max_size=3))
    deep = st.sampled_from(["x = " + "[" * 3000, "x = " + "{a=" * 3000, "a" + ".a" * 3000 + " = 1", 'extends = "../x"'])
    text = st.one_of(table, line, deep).map(lambda text: text.encode(errors="surrogatepass"))
    return st.one_of(text, st.binary(max_size=100))


def npy_files() -> st.SearchStrategy[bytes]:
    """Arrays of any type, archives, files that are cut off, and valid ones with changed bytes."""
    shapes = st.sampled_from([(512,), (512,), (1, 512), (), (0,)])
    kinds = ["<f2", "<f4", ">f4", "<f8", "<i4", "u1", "?", "<c8", "<U3", "S2", "<M8[s]", "<f4,<f4", "O"]
    values = st.sampled_from([0.0, 1.0, 3e38, 3e4, 1e308, 1e-320, float("nan"), float("inf"), -1.0])
    arrays = st.builds(_array, st.sampled_from(kinds), shapes, values)
    saved = st.one_of(st.builds(_saved, arrays, st.sampled_from([np.save, np.savez])))
    cut = st.builds(lambda data, end: data[:end], saved, st.integers(0, 3000))
    patched = st.builds(
        lambda data, at, new: data[:at] + new + data[at + len(new) :],
        saved,
        st.integers(0, 200),
        st.binary(max_size=12),
    )
    return st.one_of(saved, cut, patched, st.binary(max_size=200))


def _array(kind: str, shape: tuple[int, ...], value: float) -> np.ndarray:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return np.full(shape, value).astype(kind)
    except (ValueError, TypeError):
        return np.zeros(shape, kind)


def _saved(array: np.ndarray, save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(stream, array)
    return stream.getvalue()


AUTOENCODER = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [4],
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "latent_channels": 4,
    "layers_per_block": 1,
    "norm_num_groups": 1,
    "sample_size": 8,
}
SMALL = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), NAMES)
"""Values of which a network can be built: a million layers take as long as they must."""
CONFIGURATIONS = st.one_of(
    st.builds(
        lambda name, value: {**AUTOENCODER, name: value},
        st.sampled_from([*AUTOENCODER, "extra"]),
        st.one_of(SMALL, st.lists(SMALL, max_size=3), st.dictionaries(NAMES, SMALL, max_size=2)),
    ),
    JSON,
)
LABEL = {"camera": {"azimuth_deg": 20.0, "elevation_deg": -5.0}}
ANGLES = st.builds(lambda name, value: {"camera": {name: value}}, st.sampled_from([*LABEL["camera"]]), JSON)
VALUES = st.dictionaries(SECTIONS, st.one_of(JSON, st.dictionaries(FIELDS, JSON)), max_size=3)
READERS: list[tuple[Callable[[Path, Any], None], st.SearchStrategy[Any]]] = [
    (read_values, st.one_of(VALUES, JSON)),
    (read_toml, toml_lines()),
    (read_override, st.one_of(st.text(max_size=60), st.builds("{}.{}={}".format, SECTIONS, FIELDS, JSON))),
    (read_marker, as_bytes(changed({"schema_version": 1, "profile": "tiny", "created": "2026"}))),
    (read_decisions, as_bytes(changed(DECISIONS))),
    (read_identity_file, npy_files()),
    (read_label, as_bytes(st.one_of(ANGLES, changed(LABEL)))),
    (read_configuration, as_bytes(CONFIGURATIONS)),
]
NAMED = pytest.mark.parametrize(("read", "given_"), READERS, ids=[read.__name__ for read, _ in READERS])


def fuzz(folder: Path, read: Callable[[Path, Any], None], data: st.SearchStrategy[Any], how: settings) -> None:
    """Run a reader on examples; fails for any error but one of ours of a few lines."""

    @how
    @given(data)
    def one(value: Any) -> None:
        try:
            read(folder, value)
        except SpinMeRoundError as error:
            if len(str(error).splitlines()) > 10:
                raise

    one()


@NAMED
def test_arbitrary_content(tmp_path: Path, read: Callable[[Path, Any], None], given_: st.SearchStrategy[Any]) -> None:
    """About a hundred examples of each."""
    fuzz(tmp_path, read, given_, quick)


@pytest.mark.slow
@NAMED
def test_arbitrary_content_for_a_minute(
    tmp_path: Path, read: Callable[[Path, Any], None], given_: st.SearchStrategy[Any]
) -> None:
    """Each for a minute, without a database of examples."""
    began, thorough = monotonic(), settings(quick, max_examples=1000, database=None)
    while monotonic() - began < 60:
        fuzz(tmp_path, read, given_, thorough)
