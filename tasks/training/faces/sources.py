"""Pictures of faces in a folder, in zip files or in tar files, and the embeddings beside them. Imports no networks.

A source is a folder of pictures at any depth; a zip file, such as those of Arc2Face's dataset; a tar file, such as
those of a WebDataset; or a folder of zip or tar files at any depth. A file `NAME.npy` beside the picture `NAME.jpg`
holds its embedding, 512 numbers. Files are read where they are, nothing is unpacked.
"""

import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spinmeround.storage.errors import ConfigError, one_line
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.manifests import is_litter

FIELD = "train.adapt.faces.source"
PICTURES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
EMBEDDING = ".npy"
LARGEST_BYTES = 256 * 2**20
_ARCHIVES = (".zip", ".tar")

Read = Callable[[str], bytes]
"""Content of a file in a container, by its name."""


@dataclass(frozen=True, kw_only=True)
class Face:
    """A picture in a container: its name, a checksum of its content, and the same of the embedding beside it."""

    name: str
    checksum: str
    embedding: str | None = None
    embedding_checksum: str = ""

    @property
    def content(self) -> list[str]:
        """What identifies the picture and its embedding."""
        return [self.name, self.checksum, self.embedding_checksum]


def containers(source: Path) -> list[Path]:
    """The archives of a source, sorted, or the folder of pictures itself. Raises ConfigError if there is none."""
    if source.is_file() and source.suffix.lower() in _ARCHIVES:
        return [source]
    if not source.is_dir():
        raise ConfigError(f"{FIELD}: expected a folder, a .zip or a .tar file at {source}, found none")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in _ARCHIVES and path.is_file())
    return found or [source]


def list_faces(container: Path) -> tuple[Face, ...]:
    """The pictures in a container, by name. Raises ConfigError if it has none or cannot be read."""
    stat = container.stat()
    return _listed(container, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _listed(container: Path, size: int, modified_ns: int) -> tuple[Face, ...]:
    checksums = {name: checksum for name, checksum in _files(container) if not is_litter(name)}
    stems = {name[: -len(EMBEDDING)]: name for name in checksums if name.lower().endswith(EMBEDDING)}
    faces = []
    for name in sorted(checksums):
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix.lower() in PICTURES:
            embedding = stems.get(stem)
            faces.append(
                Face(
                    name=name,
                    checksum=checksums[name],
                    embedding=embedding,
                    embedding_checksum=checksums[embedding] if embedding else "",
                )
            )
    if not faces:
        raise ConfigError(f"{FIELD}: expected pictures ({', '.join(PICTURES)}) in {container}, found none")
    return tuple(faces)


def _files(container: Path) -> Iterable[tuple[str, str]]:
    """Name and checksum of each file. Of a zip file, the checksums that it states; of others, of what is read."""
    with _archive_errors(container):
        if container.is_dir():
            files = (path for path in container.rglob("*") if path.is_file())
            return [(path.relative_to(container).as_posix(), sha256_file(path)) for path in files]
        if container.suffix.lower() == ".zip":
            with zipfile.ZipFile(container) as archive:
                infos = (info for info in archive.infolist() if not info.is_dir())
                return [(info.filename, f"{info.CRC:08x} {info.file_size}") for info in infos]
        whole = sha256_file(container)
        with tarfile.open(container, "r:") as archive:
            return [(member.name, f"{whole} {member.size}") for member in archive if member.isfile()]


@contextmanager
def open_container(container: Path) -> Iterator[Read]:
    """Reads files of a container by name. Raises ConfigError for a damaged one, and for a file that is too large."""
    with _archive_errors(container):
        if container.is_dir():
            yield lambda name: _bounded(
                container, name, (container / name).stat().st_size, (container / name).read_bytes
            )
        elif container.suffix.lower() == ".zip":
            with zipfile.ZipFile(container) as archive:
                yield lambda name: _bounded(
                    container, name, archive.getinfo(name).file_size, lambda: archive.read(name)
                )
        else:
            with tarfile.open(container, "r:") as archive:
                members = {member.name: member for member in archive}

                def read(name: str) -> bytes:
                    stream = archive.extractfile(members[name])
                    return _bounded(container, name, members[name].size, stream.read if stream else bytes)

                yield read


def _bounded(container: Path, name: str, size: int, read: Callable[[], bytes]) -> bytes:
    if size > LARGEST_BYTES:
        raise ConfigError(f"{container}: {name}: expected at most {LARGEST_BYTES} bytes, found {size}")
    return read()


@contextmanager
def _archive_errors(container: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, NotImplementedError, KeyError) as error:
        kind = container.suffix.lower().lstrip(".") or "folder"
        raise ConfigError(
            f"{FIELD}: {container}: expected a complete {kind} file that can be read, found {one_line(error)}"
        ) from error
