"""Fetches parts from the Hugging Face hub, only on the user's explicit request and never within a run.

An interrupted transfer resumes, also in another process. All files of a part come from one commit and must have the
hashes that the hub states; their checksums are recorded, so that later changes are detected.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, environment_errors, one_line
from spinmeround.storage.files import flocked, fsync, make_folder
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.weights.fingerprints import checksums, checksums_path, read_checksums, record_checksums
from spinmeround.storage.weights.parts import Hub, Part, missing_files

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata


def fetch_part(
    part: Part, folder: Path, on_message: Callable[[str], None] = print, endpoint: str | None = None
) -> Path:
    """Fetch a part from the hub into the weights folder and record its checksums; returns its path.

    Existing intact files are not fetched again. Raises ConfigError if the part is not on the hub or its terms must be
    accepted first, SpinMeRoundError if the hub cannot be reached or delivers other content.
    """
    if not isinstance(part.source, Hub):
        place = part.place(folder)
        raise ConfigError(f"{part.name}: not on the hub; read its terms, then: {part.command(place)}")
    home, place = folder / part.source.home, part.place(folder)
    if _as_recorded(part, place):
        on_message(f"{place}: exists already")
        return place
    with environment_errors(home):
        make_folder(home)
        _fetch_files(part.source, home, on_message, endpoint)
    record_checksums(place)
    return place


def _as_recorded(part: Part, place: Path) -> bool:
    """Whether all files exist and match their record; newer commits of the hub do not matter then."""
    if any(missing_files(part, place)) or not checksums_path(place).exists():
        return False
    return checksums(place) == read_checksums(place)


def _fetch_files(source: Hub, home: Path, on_message: Callable[[str], None], endpoint: str | None) -> None:
    from huggingface_hub import errors

    # base class of the errors of the hub's HTTP client: httpx before version 1, httpx2 since
    bases = [base for base in errors.HfHubHTTPError.__mro__ if issubclass(base, Exception)]
    transport = next(base for base in bases if base.__name__ == "HTTPError")
    try:
        commit: str | None = None
        for name in source.files:
            commit = _fetch_file(source, name, home, commit, endpoint)
            on_message(f"{home / name}")
    except errors.GatedRepoError as error:
        raise ConfigError(f"{source.page}: accept the terms there, run 'hf auth login', then fetch again") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise SpinMeRoundError(f"{source.repository}: the hub cannot be reached ({one_line(error, 200)})") from error
    except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise SpinMeRoundError(f"{source.repository}: not found on the hub ({one_line(error, 200)})") from error
    except transport as error:
        raise SpinMeRoundError(
            f"{source.repository}: the transfer was interrupted ({one_line(error, 200)}); "
            "run the same command again to resume"
        ) from error


def _fetch_file(source: Hub, name: str, home: Path, commit: str | None, endpoint: str | None) -> str:
    """Fetch one file of a commit (default: the newest); returns the commit."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(source.repository, name, revision=commit, endpoint=endpoint)
    stated = get_hf_file_metadata(url, endpoint=endpoint)
    if stated.commit_hash is None or stated.etag is None or stated.size is None:
        raise SpinMeRoundError(f"{url}: expected the commit, hash and size of a file from the hub, got none")
    file = home / name
    if not (file.is_file() and file.stat().st_size == stated.size and _has_content(file, stated.etag)):
        make_folder(file.parent)
        _transfer(url, stated, file)
    return stated.commit_hash


def _transfer(url: str, stated: "HfFileMetadata", file: Path) -> None:
    """Append to the partial file of an earlier transfer of the same content, then rename it to `file`.

    The client's own download restarts from zero in every process.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, but not in __all__

    partial = file.with_name(f".{file.name}.{str(stated.etag)[:16]}.part")
    # another host that the hub redirects to needs no token and must not receive ours
    headers = build_hf_headers() if urlsplit(url).netloc == urlsplit(stated.location).netloc else {}
    with flocked(file.with_name(f".{file.name}.lock")):
        with partial.open("ab") as out:
            http_get(stated.location, out, resume_size=out.tell(), headers=headers, expected_size=stated.size)
        if not _has_content(partial, str(stated.etag)):
            partial.unlink()
            raise SpinMeRoundError(
                f"{file}: expected the hash {stated.etag} that the hub states, got another; fetch again"
            )
        fsync(partial)
        partial.replace(file)
    fsync(file.parent)


def _has_content(file: Path, etag: str) -> bool:
    """Whether a file has the hub's ETag: the SHA-256 of large files, git's SHA-1 of small ones."""
    if len(etag) == 64:
        return sha256_file(file) == etag
    data = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == etag
