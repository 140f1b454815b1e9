"""Records of a folder's files: size and SHA-256 of each, by relative name.

Artifacts, datasets and checkpoints use them. Names are POSIX paths below the folder; absolute paths, `..` and symbolic
links are refused, both when files are recorded and when a manifest is read.
"""

import errno
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import from_json

from spinmeround.storage.hashing import sha256_file

_LONGEST, _LONGEST_PART = 700, 255
_LITTER = re.compile(
    r"\._.*|\.DS_Store|\.AppleDouble|\.apdisk|\.localized|Icon\r|\.VolumeIcon\.icns|__MACOSX"  # macOS, in any folder
    r"|\.Spotlight-V\d+|\.DocumentRevisions-V\d+|\.fseventsd|\.TemporaryItems|\.Trashes"  # macOS, on any volume
    r"|\.com\.apple\.timemachine\..*|\.AppleDB|\.AppleDesktop|Network Trash Folder|Temporary Items"
    r"|(eh)?thumbs(_vista)?\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information"  # Windows
    r"|\.nfs.*|\.fuse_hidden.*|\.smbdelete.*|\.directory|\.hidden|\.Trash-\d+|lost\+found"  # Linux
    r"|@eaDir|@Recycle|#recycle|#snapshot|\.snapshot|\.glusterfs"  # file servers
    r"|\.stfolder|\.stversions|\.stignore|\.syncthing\..*|\.sync|\.dropbox(\.attr|\.cache)?|\..+\.icloud"
    r"|\.~tmp~|\.rsync-partial|\..+\.[A-Za-z0-9]{6}"  # of rsync, the last an unfinished copy
    r"|.*~|\..*\.sw[a-p]|\.~lock\..*#|\.#.*|\.ipynb_checkpoints|\.git(keep|ignore|attributes)",  # editors and git
    re.IGNORECASE,
)
"""Files and folders that systems, file servers, synchronising programs and editors put into any folder.

Files of ours never begin with a dot, but for temporary ones, which end in 16 digits and so stay visible.
"""
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def relative_name(name: str) -> str:
    """Return the name unchanged. Raises ValueError if it may point outside its folder or is too long."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or str(path) != name:
        raise ValueError(f"file name {name[:80]!r}: expected a plain relative path below the folder")
    if len(name.encode()) > _LONGEST or any(len(part.encode()) > _LONGEST_PART for part in path.parts):
        raise ValueError(
            f"file name {name[:80]!r}...: expected at most {_LONGEST_PART} bytes, and {_LONGEST} with folders"
        )
    return name


RelativeName = Annotated[str, AfterValidator(relative_name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """Size in bytes and SHA-256 of one file. Not a pydantic model: one takes three times as long to make."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


def checksums_of(files: Mapping[str, FileRecord]) -> dict[str, str]:
    """The SHA-256 of each file by name."""
    return {name: record.sha256 for name, record in files.items()}


def stated_version(data: bytes) -> int:
    """The schema version in a manifest's JSON, 0 if it has none or is not JSON."""
    try:
        found = from_json(data)
    except ValueError:
        return 0
    version = found.get("schema_version") if isinstance(found, dict) else None
    return version if isinstance(version, int) else 0


def is_litter(name: str) -> bool:
    """Whether a file or folder, or one that contains it, is none of ours but of another program."""
    return any(_LITTER.fullmatch(part) for part in name.split("/"))


def walk_files(folder: Path, *, without: Collection[str] = ()) -> list[str]:
    """Sorted names of all files below a folder, except `without` and litter. Raises ValueError for a link or device."""
    return sorted(name for name in each_file(folder) if name not in without)


def each_file(folder: Path) -> Iterator[str]:
    """As `walk_files`, one after the other in any order: millions of names need no memory."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if is_litter(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{name}/")
                elif not entry.is_file(follow_symlinks=False):
                    raise ValueError(f"{name} is a link or a special file: expected regular files and folders")
                else:
                    yield name


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file of a folder, by name."""
    return {name: record_file(folder / name) for name in walk_files(folder)}


def record_file(path: Path) -> FileRecord:
    """Size and SHA-256 of one file."""
    return FileRecord(size=path.stat().st_size, sha256=sha256_file(path))


def size_problem(folder: Path, name: str, expected: FileRecord) -> str | None:
    """The problem with a file's existence, kind or size, or None; reads no content."""
    path, found = os.fspath(folder), None
    for part in name.split("/"):
        path = f"{path}/{part}"
        try:
            found = os.lstat(path)
        except OSError as error:
            if error.errno in _ABSENT:
                return f"{name} is missing"
            raise
        if stat.S_ISLNK(found.st_mode):
            return f"{name} is a link: expected a regular file"
    if found is None or not stat.S_ISREG(found.st_mode):
        return f"{name} is missing"
    if found.st_size != expected.size:
        return f"{name}: expected {expected.size} bytes, found {found.st_size}"
    return None


def content_problem(folder: Path, name: str, expected: FileRecord) -> str | None:
    """The problem with a file, including its SHA-256, or None; reads all of it."""
    problem = size_problem(folder, name, expected)
    if problem is None and sha256_file(folder / name) != expected.sha256:
        problem = f"{name}: its content does not match its SHA-256"
    return problem


def extra_files(folder: Path, expected: Mapping[str, FileRecord], *, without: Collection[str] = ()) -> list[str]:
    """Names of the files of a folder that have no record."""
    return [name for name in walk_files(folder, without=without) if name not in expected]
