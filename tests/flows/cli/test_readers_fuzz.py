"""Arbitrary content of profiles, run markers and decisions files is read, or refused with a ConfigError."""

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinmeround.flows.profile import Profile, load_profile, validate_profile
from spinmeround.flows.run.folder import Place, open_run
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.screening.decisions import GeneratorId, parse_decisions
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


VALUES = st.dictionaries(SECTIONS, st.one_of(JSON, st.dictionaries(FIELDS, JSON)), max_size=3)
READERS: list[tuple[Callable[[Path, Any], None], st.SearchStrategy[Any]]] = [
    (
        read_values,
        st.one_of(st.dictionaries(SECTIONS, st.one_of(JSON, st.dictionaries(FIELDS, JSON)), max_size=3), JSON),
    ),
    (read_toml, toml_lines()),
    (read_override, st.one_of(st.text(max_size=60), st.builds("{}.{}={}".format, SECTIONS, FIELDS, JSON))),
    (read_marker, as_bytes(changed({"schema_version": 1, "profile": "tiny", "created": "2026"}))),
    (read_decisions, as_bytes(changed(DECISIONS))),
]
NAMED = pytest.mark.parametrize(("read", "given_"), READERS, ids=["values", "toml", "override", "marker", "decisions"])


def fuzz(folder: Path, read: Callable[[Path, Any], None], data: st.SearchStrategy[Any], how: settings) -> None:
    """Run a reader on examples; fails for any error but a ConfigError of a few lines."""

    @how
    @given(data)
    def one(value: Any) -> None:
        try:
            read(folder, value)
        except ConfigError as error:
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
