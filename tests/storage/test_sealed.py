"""Sealed JSON: no flipped bit of a record is read in silence."""

import json

import pytest

from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed


class Record(FrozenModel):
    """A record with a number, a text and nested values."""

    number: float = 0.5
    text: str = "größer"
    more: tuple[tuple[str, int], ...] = (("a", 1), ("b", 2))


def test_round_trip() -> None:
    """The record comes back, and a record without a checksum is read as before."""
    assert Record.model_validate(unsealed(sealed_json(Record()))) == Record()
    assert Record.model_validate(unsealed(Record().model_dump_json().encode())) == Record()


def test_every_flipped_bit_is_found_or_changes_nothing() -> None:
    """All bits of a record, one at a time."""
    data = sealed_json(Record())
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = Record.model_validate(unsealed(bytes(flipped)))
        except ValueError:
            continue
        assert found == Record(), flipped


def test_an_edited_record_is_refused() -> None:
    """A person who edits the file removes its checksum."""
    edited = json.loads(sealed_json(Record())) | {"number": 1.5}
    with pytest.raises(ValueError, match="does not match its checksum"):
        unsealed(json.dumps(edited).encode())
    del edited["checksum"]
    assert unsealed(json.dumps(edited).encode())["number"] == 1.5
