"""Requests to an S3-speaking server that outlast its bad moments: retried with exponential backoff, then a clear error.

The endpoint and the credentials come from the usual variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, ...). A server that is down, slow, or answers 5xx is tried again for about
a minute, whatever the request: every object is written as a whole, so a request sent twice does no harm.
"""

import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore import exceptions as answers
from obstore.store import S3Store

from spinmeround.storage.errors import StorageUnavailable, StoreError
from spinmeround.storage.manifests import FileRecord

T = TypeVar("T")
_ABSENT = (FileNotFoundError, answers.NotFoundError)
_REFUSED = (answers.PermissionDeniedError, answers.UnauthenticatedError, PermissionError)
_TAKEN = (answers.AlreadyExistsError, answers.PreconditionError)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a request is tried, and the seconds between (doubled each time up to `most_s`) and for each try."""

    attempts: int = 8
    first_s: float = 0.5
    most_s: float = 20.0
    request_s: float = 120.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait after each attempt but the last, with some chance in them, so that not all come at once."""
        for attempt in range(self.attempts - 1):
            yield min(self.most_s, self.first_s * 2**attempt) * random.uniform(0.7, 1.0)


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object in a listing; `modified` by the server's clock, in seconds."""

    name: str
    size: int
    modified: float
    e_tag: str


class ObjectClient:
    """The objects below `url` (s3://bucket/prefix), by their names."""

    def __init__(self, url: str, patience: Patience) -> None:
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{2,62}(/[\w+=-][\w.+=-]*)*/?", url):
            raise StoreError(f"artifact store {url}: expected s3://bucket or s3://bucket/prefix; mend the URL")
        self.url = url.rstrip("/")
        self._patience = patience
        endpoint = s3_endpoint()
        self._endpoint = endpoint or "AWS"
        self._store = S3Store.from_url(
            self.url,
            config={"endpoint": endpoint} if endpoint else {},
            client_options={
                "allow_http": self._endpoint.startswith("http://"),
                "timeout": timedelta(seconds=patience.request_s),
                "connect_timeout": timedelta(seconds=min(10.0, patience.request_s)),
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=patience.request_s)},
        )

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None where it is absent."""
        return self._or_none(name, lambda: bytes(obstore.get(self._store, name).bytes()))

    def info(self, name: str) -> ObjectInfo | None:
        """Size and time of an object, None where it is absent."""
        return self._or_none(name, lambda: _info(obstore.head(self._store, name)))

    def fetch(self, name: str, target: Path | None, *, most: int) -> FileRecord | None:
        """Read an object, into a new file or nowhere; returns what came, None where it is absent.

        Not much more than `most` bytes are read, whatever the object's size.
        """
        return self._or_none(name, lambda: self._stream(name, target, most))

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, whatever was there."""
        self._required(name, lambda: obstore.put(self._store, name, data))

    def create(self, name: str, data: bytes) -> str | None:
        """Write an object that must not be there yet; its tag, or None where it is there.

        A server without conditional writes overwrites.
        """
        return self._conditional(name, data, "create")

    def replace(self, name: str, data: bytes, e_tag: str) -> str | None:
        """Write an object that must still have this tag; its new tag, or None where it has another or is gone."""
        return self._conditional(name, data, {"e_tag": e_tag})

    def copy(self, source: str, target: str) -> None:
        """Copy an object on the server."""
        self._required(source, lambda: obstore.copy(self._store, source, target))

    def delete(self, name: str) -> None:
        """Remove an object if it is there."""
        self._or_none(name, lambda: obstore.delete(self._store, name))

    def listing(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below a folder (all there are for ""), in the order of their names."""
        after: str | None = None
        while True:
            page, after = self._try(prefix or "the listing", partial(self._page, prefix, after))
            yield from page
            if after is None:
                return

    def _page(self, prefix: str, after: str | None) -> tuple[list[ObjectInfo], str | None]:
        for chunk in obstore.list(self._store, prefix or None, offset=after, chunk_size=1000):
            page = [_info(meta) for meta in chunk]
            return page, page[-1].name if len(page) == 1000 else None
        return [], None

    def _stream(self, name: str, target: Path | None, most: int) -> FileRecord:
        size, digest = 0, hashlib.sha256()
        with open(target or os.devnull, "wb") as file:
            for chunk in obstore.get(self._store, name).stream(min_chunk_size=4 << 20):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                if size > most:
                    break
        return FileRecord(size=size, sha256=digest.hexdigest())

    def _conditional(self, name: str, data: bytes, mode: Any) -> str | None:
        try:
            done = self._required(name, lambda: obstore.put(self._store, name, data, mode=mode, use_multipart=False))
            return str(done["e_tag"])
        except _TAKEN:
            return None
        except (answers.NotSupportedError, NotImplementedError):
            self.put(name, data)
            return ""

    def _or_none(self, name: str, request: Callable[[], T]) -> T | None:
        try:
            return self._try(name, request)
        except _ABSENT:
            return None

    def _required(self, name: str, request: Callable[[], T]) -> T:
        try:
            return self._try(name, request)
        except _ABSENT as error:
            raise StorageUnavailable(
                f"cannot use {self.url}/{name}: the server knows no such object or bucket; make the bucket, or look "
                f"whether the object was removed ({_line(error)})"
            ) from error

    def _try(self, name: str, request: Callable[[], T]) -> T:
        """Answers that no repetition would change come at once, as they are or as StorageUnavailable."""
        waits, began, tries = self._patience.waits(), time.monotonic(), 0
        while True:
            tries += 1
            try:
                return request()
            except (*_ABSENT, *_TAKEN, answers.NotSupportedError, NotImplementedError):
                raise
            except _REFUSED as error:
                raise StorageUnavailable(
                    f"cannot use {self.url}/{name}: {self._endpoint} denies access; check AWS_ACCESS_KEY_ID, "
                    f"AWS_SECRET_ACCESS_KEY and the bucket's policy ({_line(error)})"
                ) from error
            except (answers.BaseError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # a local disk's
                wait = None if _hopeless(error) else next(waits, None)
                if wait is None:
                    spent = f"failed {tries} times in {time.monotonic() - began:.0f} s"
                    raise StorageUnavailable(
                        f"cannot use {self.url}/{name}: {self._endpoint} {spent}, at last with: {_line(error)}. "
                        f"{_advice(error)}; what is made already stays"
                    ) from error
                time.sleep(wait)


def s3_endpoint() -> str | None:
    """The server that the environment names, None for AWS itself; obstore knows only one of the two variables."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(
        name=meta["path"],
        size=meta["size"],
        modified=meta["last_modified"].timestamp(),
        e_tag=meta["e_tag"] or "",
    )


def _hopeless(error: Exception) -> bool:
    """Whether the server found fault with the request itself."""
    code = re.search(r"status code: (\d+)", str(error))
    return code is not None and code.group(1)[0] == "4" and code.group(1) not in ("408", "429")


def _advice(error: Exception) -> str:
    if "169.254" in str(error):
        return "No credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then run again"
    return "Look whether the server runs and can be reached (AWS_ENDPOINT_URL), then run again"


def _line(error: Exception) -> str:
    return " ".join(str(error).split("Debug source")[0].split())[:300]
