"""Fixtures of the storage tests."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.artifacts.s3_backend import ObjectBackend
from spinmeround.storage.artifacts.s3_cache import ArtifactCache
from spinmeround.storage.s3 import ObjectClient
from tests.support.s3 import BUCKET, QUICK, S3Server

OpenStore = Callable[..., ArtifactStore]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def open_s3(s3: S3Server, s3_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenStore:
    """Opens the test's store on the server, with a quick client and one cache per name."""

    def make(
        cache: str = "cache", *, limit: int = 1 << 30, url: str | None = None, lease_s: float = 1.0
    ) -> ArtifactStore:
        for name, value in s3.environment(url).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SPINMEROUND_CACHE", str(tmp_path / "caches"))
        root = f"s3://{BUCKET}/{s3_prefix}"
        local = ArtifactCache(tmp_path / cache, limit)
        return ArtifactStore(root, ObjectBackend(ObjectClient(root, QUICK), local, lease_s=lease_s))

    return make


@pytest.fixture(params=["local", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """A local store and one on the S3 server."""
    if request.param == "local":
        return ArtifactStore(tmp_path / "store")
    make: OpenStore = request.getfixturevalue("open_s3")
    return make()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system with the given options; skips if mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting a small file system is not allowed here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)
