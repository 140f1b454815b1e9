"""Pictures of faces in a folder, in zip files or in tar files, and the embeddings beside them. Imports no networks.

A source is a folder of pictures at any depth; a zip file, such as those of Arc2Face's dataset; a tar file, such as
those of a WebDataset; or a folder of zip or tar files at any depth. A file `NAME.npy` beside the picture `NAME.jpg`
holds its embedding, 512 numbers. Files are read where they are, nothing is unpacked.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
"""Content of a file in a container, by its name. Raises ConfigError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """A picture in a container, and a checksum of its content; the same of the embedding beside it, or empty."""

    name: str
    checksum: str
    embedding: str = ""
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


def list_faces(container: Path) -> list[Face]:
    """The pictures in a container, by name. Raises ConfigError if it has none or cannot be read."""
    with _archive_errors(container):
        checksums = {name: checksum for name, checksum in _files(container) if not is_litter(name)}
    beside = {name[: -len(EMBEDDING)]: name for name in checksums if name.lower().endswith(EMBEDDING)}
    faces = []
    for name in sorted(checksums):
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix.lower() in PICTURES:
            embedding = beside.get(stem, "")
            known = checksums[embedding] if embedding else ""
            faces.append(Face(name=name, checksum=checksums[name], embedding=embedding, embedding_checksum=known))
    if not faces:
        raise ConfigError(f"{FIELD}: expected pictures ({', '.join(PICTURES)}) in {container}, found none")
    return faces


def _files(container: Path) -> Iterable[tuple[str, str]]:
    """Name and checksum of each file. Of a zip file, the checksums that it states; of others, of what is read."""
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
    """Reads files of a container by name. Raises ConfigError for a damaged one."""
    with ExitStack() as stack:
        with _archive_errors(container):
            sized = _opened(container, stack)

        def read(name: str) -> bytes:
            with _archive_errors(container, name):
                size, content = sized(name)
                if size > LARGEST_BYTES:
                    raise ConfigError(f"{name}: expected at most {LARGEST_BYTES} bytes, found {size}")
                return content()

        yield read


def _opened(container: Path, stack: ExitStack) -> Callable[[str], tuple[int, Callable[[], bytes]]]:
    """Size of a file by its name, and a function that reads it."""
    if container.is_dir():
        return lambda name: ((container / name).stat().st_size, (container / name).read_bytes)
    if container.suffix.lower() == ".zip":
        zipped = stack.enter_context(zipfile.ZipFile(container))
        return lambda name: (zipped.getinfo(name).file_size, lambda: zipped.read(name))
    tarred = stack.enter_context(tarfile.open(container, "r:"))  # noqa: SIM115
    members = {member.name: member for member in tarred if member.isfile()}

    def content(name: str) -> bytes:
        stream = tarred.extractfile(members[name])
        return b"" if stream is None else stream.read()

    return lambda name: (members[name].size, lambda: content(name))


@contextmanager
def _archive_errors(container: Path, name: str = "") -> Iterator[None]:
    """What the readers of archives raise for damaged, encrypted and changed ones becomes a ConfigError."""
    damaged = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError)
    try:
        yield
    except damaged as error:
        kind = container.suffix.lower().lstrip(".") or "folder"
        what = (
            f"{name}: expected a file that" if name else f"{FIELD}: {container}: expected a complete {kind} file that"
        )
        raise ConfigError(f"{what} can be read, found {one_line(error)}") from error
