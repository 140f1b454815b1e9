"""The record of a file's checksum is read in every form that `sha256sum` writes and editors leave."""

import hashlib
from pathlib import Path

import pytest

from spinmeround.storage.errors import SpinMeRoundError
from spinmeround.storage.weights import checksums_path, fingerprint, record_checksums

pytestmark = pytest.mark.fast
SHA256 = hashlib.sha256(b"1").hexdigest()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    file = tmp_path / "x.bin"
    file.write_bytes(b"1")
    return file


@pytest.mark.parametrize(
    "line",
    ["{}  x.bin\n", "\ufeff{}  x.bin\n", "{} *x.bin\n", "{}  ./x.bin\r\n", "{}  x.bin\n\n"],
    ids=["as written", "mark", "binary mode", "Windows", "blank line"],
)
@pytest.mark.parametrize("sha256", [SHA256, SHA256.upper()], ids=["lower case", "upper case"])
def test_equal_records_agree_and_others_do_not(weights: Path, line: str, sha256: str) -> None:
    """The hash is compared, not its spelling; the record stays as it is."""
    record = checksums_path(weights)
    record.write_bytes(line.format(sha256).encode())
    assert record_checksums(weights) == SHA256
    assert record.read_bytes() == line.format(sha256).encode()
    record.write_bytes(line.format(hashlib.sha256(b"2").hexdigest()).encode())
    with pytest.raises(SpinMeRoundError, match=r"x\.bin has changed since its first use: expected SHA-256 \w{12}, "):
        fingerprint(weights)


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\xff\xfe", f"{SHA256}\n".encode(), f"{SHA256[:-1]}  x.bin\n".encode(), f"{SHA256} x.bin".encode()],
    ids=["empty", "blank", "UTF-16", "no name", "short", "one space"],
)
def test_an_unreadable_record_is_named(weights: Path, content: bytes) -> None:
    """It is never taken for a change of the weights, nor overwritten."""
    record = checksums_path(weights)
    record.write_bytes(content)
    for read in (fingerprint, record_checksums):
        with pytest.raises(SpinMeRoundError, match=r"x\.bin\.sha256: expected lines with a SHA-256 and a name"):
            read(weights)
    assert record.read_bytes() == content


def test_a_record_with_two_hashes_of_a_file_is_refused(weights: Path) -> None:
    """The last one would win; the same hash twice is no contradiction."""
    record = checksums_path(weights)
    record.write_text(f"{SHA256}  x.bin\n{SHA256} *./x.bin\n")
    assert fingerprint(weights) == SHA256
    record.write_text(f"{'0' * 64}  x.bin\n{SHA256}  x.bin\n")
    with pytest.raises(SpinMeRoundError, match=r"x\.bin: expected one SHA-256, found two"):
        fingerprint(weights)


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "Icon\r", "__MACOSX/._x", "x.bin~", ".cache/x"])
def test_litter_does_not_change_weights(tmp_path: Path, name: str) -> None:
    """Systems and editors put such files into any folder; another file is a change."""
    folder = tmp_path / "ae"
    folder.mkdir()
    (folder / "x.bin").write_bytes(b"1")
    before = record_checksums(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"litter")
    assert fingerprint(folder) == before
    (folder / "y.bin").write_bytes(b"2")
    with pytest.raises(SpinMeRoundError, match=r"y\.bin has changed since its first use"):
        fingerprint(folder)


def test_a_folder_in_place_of_the_record_is_named(weights: Path) -> None:
    """The weights are not used unchecked."""
    checksums_path(weights).mkdir()
    for read in (fingerprint, record_checksums):
        with pytest.raises(SpinMeRoundError, match=r"x\.bin\.sha256: .*(Is a directory)"):
            read(weights)
