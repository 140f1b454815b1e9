"""Canonical JSON and fingerprints."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinmeround.storage.errors import SpinMeRoundError, StoreError
from spinmeround.storage.hashing import canonical_json, sha256_file
from spinmeround.storage.weights import fingerprint

pytestmark = pytest.mark.fast
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_canonical_json_ignores_order(value: dict[str, object]) -> None:
    """The order of a mapping's items does not matter."""
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_canonical_json_known_value() -> None:
    """Sorted keys, no spaces, tuples as lists."""
    assert canonical_json({"b": (1, 2.5), "a": None}) == b'{"a":null,"b":[1,2.5]}'


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()], ids=["nan", "set", "object"])
def test_canonical_json_refuses_what_has_no_exact_form(value: object) -> None:
    """NaN, sets and objects have no canonical JSON."""
    with pytest.raises(StoreError, match="expected JSON values"):
        canonical_json({"x": value})


def test_file_fingerprint_is_plain_sha256(tmp_path: Path) -> None:
    """A file's fingerprint is what sha256sum prints."""
    (tmp_path / "x").write_bytes(b"abc")
    assert fingerprint(tmp_path / "x") == sha256_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()


def test_folder_fingerprint_is_of_content_and_names(tmp_path: Path) -> None:
    """Copies in any place have the same fingerprint; a renamed or changed file has another."""
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "x").write_bytes(b"abc")
    before = fingerprint(tmp_path / "one")
    assert before == fingerprint(tmp_path / "two")
    (tmp_path / "two" / "sub" / "x").rename(tmp_path / "two" / "sub" / "y")
    assert before != fingerprint(tmp_path / "two")


def test_fingerprint_of_nothing(tmp_path: Path) -> None:
    """The error for a missing path names it."""
    with pytest.raises(SpinMeRoundError, match="nowhere"):
        fingerprint(tmp_path / "nowhere")
