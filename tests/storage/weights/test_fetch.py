"""Fetching from a local hub: complete, resumed, refused."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.file_download
import numpy as np
import pytest

from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.storage.weights import (
    checksums_path,
    fetch_part,
    find_part,
    fingerprint,
    read_checksums,
    record_checksums,
)
from tests.support.hub import FakeHub, fake_hub

UNET = np.random.default_rng(0).bytes(300_000)
REPOSITORY = "FoivosPar/Arc2Face"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Arc2Face's repository with small files; the client writes small chunks and does not pause between attempts."""
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda seconds: None)
    files = {
        f"{REPOSITORY}/arc2face/config.json": b"{}",
        f"{REPOSITORY}/arc2face/diffusion_pytorch_model.safetensors": UNET,
        f"{REPOSITORY}/arcface.onnx": b"network",
    }
    with fake_hub(files) as hub:
        yield hub


def got(hub: FakeHub, name: str, folder: Path) -> Path:
    return fetch_part(find_part(name), folder, on_message=lambda line: None, endpoint=hub.endpoint)


def test_a_part_lies_where_the_profile_looks_and_is_recorded(hub: FakeHub, tmp_path: Path) -> None:
    """Fetched files are equal byte for byte, and sha256sum accepts their recorded checksums."""
    place = got(hub, "arc2face-unet", tmp_path)
    assert place == tmp_path / "arc2face" / "arc2face"
    assert (place / "diffusion_pytorch_model.safetensors").read_bytes() == UNET
    record = checksums_path(place)
    assert set(read_checksums(place)) == {"arc2face/config.json", "arc2face/diffusion_pytorch_model.safetensors"}
    subprocess.run(["sha256sum", "--quiet", "-c", record.name], cwd=record.parent, check=True)


def test_what_is_there_is_not_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    """A second fetch transfers nothing; a file that was damaged before it was recorded is fetched again."""
    place = got(hub, "arc2face-unet", tmp_path)
    hub.gets.clear()
    hub.files[f"{REPOSITORY}/arc2face/config.json"] = b"{ }"  # a newer commit
    got(hub, "arc2face-unet", tmp_path)
    assert hub.gets == []
    hub.files[f"{REPOSITORY}/arc2face/config.json"] = b"{}"
    (place / "config.json").write_bytes(b"[]")
    got(hub, "arc2face-unet", tmp_path)
    assert hub.gets == [("arc2face/config.json", None)]
    assert (place / "config.json").read_bytes() == b"{}"


def test_a_transfer_that_was_cut_off_goes_on_where_it_ended(hub: FakeHub, tmp_path: Path) -> None:
    """An interrupted fetch raises an error, the next one requests only the rest; no partial file is left."""
    hub.cut = 100_000
    with pytest.raises(SpinMeRoundError, match="run the same command again to resume"):
        got(hub, "arc2face-unet", tmp_path)
    place = find_part("arc2face-unet").place(tmp_path)
    assert not (place / "diffusion_pytorch_model.safetensors").exists()
    assert not checksums_path(place).exists()
    hub.cut = None
    hub.gets.clear()
    got(hub, "arc2face-unet", tmp_path)
    assert hub.gets == [("arc2face/diffusion_pytorch_model.safetensors", "bytes=100000-")]
    assert (place / "diffusion_pytorch_model.safetensors").read_bytes() == UNET


def test_a_damaged_record_of_checksums_gives_a_short_error(tmp_path: Path) -> None:
    """A name of any length in the record does not fill the user's terminal."""
    place = tmp_path / "arcface.onnx"
    place.write_bytes(b"network")
    record_checksums(place)
    checksums_path(place).write_text(f"{'0' * 64}  {'[' * 5000}\n", encoding="utf-8")
    with pytest.raises(SpinMeRoundError, match="has changed since its first use") as caught:
        fingerprint(place)
    assert len(str(caught.value)) < 1000


def test_what_changes_after_its_first_use_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    """Every later fingerprint checks the record; the error names the file and both remedies."""
    place = got(hub, "arcface", tmp_path)
    fingerprint(place)
    place.write_bytes(b"other network")
    with pytest.raises(SpinMeRoundError, match=r"arcface\.onnx has changed since its first use.* remove .*\.sha256"):
        fingerprint(place)
    checksums_path(place).unlink()
    fingerprint(place)


def test_a_file_with_a_wrong_hash_is_removed(hub: FakeHub, tmp_path: Path) -> None:
    """A large file with a wrong SHA-256 is refused and removed."""
    hub.wrong = True
    with pytest.raises(SpinMeRoundError, match="that the hub states, got another"):
        got(hub, "arcface", tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_terms_come_first(hub: FakeHub, tmp_path: Path) -> None:
    """For a gated repository and for a part outside the hub, the error names the page; nothing is transferred."""
    hub.gated = True
    with pytest.raises(ConfigError, match=f"https://huggingface.co/{REPOSITORY}: accept the terms"):
        got(hub, "arcface", tmp_path)
    with pytest.raises(ConfigError, match=r"antelopev2: not on the hub.*github.com/deepinsight/insightface"):
        got(hub, "antelopev2", tmp_path)
    assert hub.gets == []


def test_a_repository_without_the_file_is_named(hub: FakeHub, tmp_path: Path) -> None:
    """The hub's answer is shown on one line."""
    with pytest.raises(SpinMeRoundError, match="not found on the hub"):
        got(hub, "arc2face-encoder", tmp_path)


@pytest.mark.parametrize("offline", [False, True], ids=["online", "offline"])
def test_the_command_asks_the_hub_of_the_environment(hub: FakeHub, tmp_path: Path, offline: bool) -> None:
    """HF_ENDPOINT sets the address of the hub; with HF_HUB_OFFLINE the command reports that it is offline."""
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": str(int(offline))}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from spinmeround.flows.cli.app import main; main()",
            "weights",
            "fetch",
            "arcface",
            "--to",
            str(tmp_path),
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    place = find_part("arcface").place(tmp_path)
    assert place.exists() != offline
    assert done.returncode == (2 if offline else 0), done.stderr
    if offline:
        assert "error: FoivosPar/Arc2Face: the hub cannot be reached" in done.stderr
        assert "Traceback" not in done.stderr
        assert hub.gets == []
    else:
        assert find_part("arcface").licence in done.stdout
