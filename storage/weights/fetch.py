"""Fetching a part from the hub, because a person asked for it by name: never from within a run.

A transfer that was cut off goes on where it ended, in another process too. All files of a part come from one commit
and must have the hashes that the hub states; what came is recorded, so that it cannot change unnoticed later.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, environment_errors
from spinmeround.storage.files import flocked, fsync, make_folder
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.weights.fingerprints import checksums, checksums_path, read_checksums, record_checksums
from spinmeround.storage.weights.parts import Hub, Part, missing_files

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata


def fetch_part(part: Part, folder: Path, say: Callable[[str], None] = print, endpoint: str | None = None) -> Path:
    """Fetch a part of the hub below the weights folder and record it; returns its place.

    What is there whole already is not fetched again. Raises ConfigError where the part is got by hand, or its
    terms have to be agreed to first; SpinMeRoundError where the hub cannot be reached or gives something else.
    """
    if not isinstance(part.source, Hub):
        place = part.place(folder)
        raise ConfigError(f"{part.name} is not on the hub, and its terms are to be read first: {part.command(place)}")
    home, place = folder / part.source.home, part.place(folder)
    if _as_recorded(part, place):
        say(f"{place}: here already")
        return place
    with environment_errors(home):
        make_folder(home)
        _fetch_files(part.source, home, say, endpoint)
    record_checksums(place)
    return place


def _as_recorded(part: Part, place: Path) -> bool:
    """Whether all is here as it was at first use; then a newer commit of the hub is none of our business."""
    if any(missing_files(part, place)) or not checksums_path(place).is_file():
        return False
    return checksums(place) == read_checksums(place)


def _fetch_files(source: Hub, home: Path, say: Callable[[str], None], endpoint: str | None) -> None:
    from huggingface_hub import errors

    # the base of its client's errors, of httpx until version 1 and of httpx2 since
    bases = [base for base in errors.HfHubHTTPError.__mro__ if issubclass(base, Exception)]
    transport = next(base for base in bases if base.__name__ == "HTTPError")
    try:
        commit: str | None = None
        for name in source.files:
            commit = _fetch_file(source, name, home, commit, endpoint)
            say(f"{home / name}")
    except errors.GatedRepoError as error:
        raise ConfigError(f"{source.page}: agree to the terms there, then 'hf auth login', then fetch again") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise SpinMeRoundError(f"{source.repository}: the hub cannot be reached ({_line(error)})") from error
    except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise SpinMeRoundError(f"{source.repository}: the hub has not got it ({_line(error)})") from error
    except transport as error:
        raise SpinMeRoundError(
            f"{source.repository}: the transfer was cut off ({_line(error)}); the same command goes on from there"
        ) from error


def _fetch_file(source: Hub, name: str, home: Path, commit: str | None, endpoint: str | None) -> str:
    """Fetch one file of a commit, of the newest where none is given; returns the commit."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(source.repository, name, revision=commit, endpoint=endpoint)
    stated = get_hf_file_metadata(url, endpoint=endpoint)
    if stated.commit_hash is None or stated.etag is None or stated.size is None:
        raise SpinMeRoundError(f"{url}: expected a file of the hub with its commit, hash and size, got none")
    file = home / name
    if not (file.is_file() and file.stat().st_size == stated.size and _is(file, stated.etag)):
        make_folder(file.parent)
        _transfer(url, stated, file)
    return stated.commit_hash


def _transfer(url: str, stated: "HfFileMetadata", file: Path) -> None:
    """Append to what an earlier transfer of the same content left, then rename it to `file`.

    The client's own download to a folder begins anew in every process.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    partial = file.with_name(f".{file.name}.{str(stated.etag)[:16]}.part")
    # where the hub sends us to another host, that address needs no token, and must not see ours
    headers = build_hf_headers() if urlsplit(url).netloc == urlsplit(stated.location).netloc else {}
    with flocked(file.with_name(f".{file.name}.lock")):
        with partial.open("ab") as out:
            http_get(stated.location, out, resume_size=out.tell(), headers=headers, expected_size=stated.size)
        if not _is(partial, str(stated.etag)):
            partial.unlink()
            raise SpinMeRoundError(
                f"{file}: what came has not the hash that the hub states, {stated.etag}; fetch again"
            )
        fsync(partial)
        partial.replace(file)
    fsync(file.parent)


def _is(file: Path, etag: str) -> bool:
    """Whether a file has the content that the hub names: by SHA-256 a large one, by git's SHA-1 a small one."""
    if len(etag) == 64:
        return sha256_file(file) == etag
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == etag


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
