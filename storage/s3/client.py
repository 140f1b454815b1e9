"""A client for S3 servers that retries failed requests with exponential backoff.

The endpoint and the credentials come from the usual variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, ...). Requests to a server that is down, slow, or answers 5xx are retried for about
a minute. Objects are written atomically, so repeated requests do no harm.
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
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore import exceptions as answers
from obstore.store import S3Store

from spinmeround.storage.errors import StorageUnavailable, StoreError, one_line
from spinmeround.storage.manifests import FileRecord

if TYPE_CHECKING:
    from obstore.store import ClientConfig

T = TypeVar("T")
_ABSENT = (FileNotFoundError, answers.NotFoundError)
_REFUSED = (answers.PermissionDeniedError, answers.UnauthenticatedError, PermissionError)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TAKEN = (answers.AlreadyExistsError, answers.PreconditionError)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Attempts of a request, the pause between them (doubled each time up to `most_s`), and the time limit of each."""

    attempts: int = 8
    first_s: float = 0.5
    most_s: float = 20.0
    request_s: float = 120.0

    def waits(self) -> Iterator[float]:
        """Seconds to wait after each attempt but the last, with jitter to spread the retries of concurrent clients."""
        for attempt in range(self.attempts - 1):
            yield min(self.most_s, self.first_s * 2**attempt) * random.uniform(0.7, 1.0)


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object in a listing; `size` in bytes, `modified` in seconds by the server's clock."""

    name: str
    size: int
    modified: float
    e_tag: str


class ObjectClient:
    """The objects below `url` (s3://bucket/prefix), by their names."""

    def __init__(self, url: str, policy: RetryPolicy) -> None:
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{2,62}(/[\w+=-][\w.+=-]*)*/?", url):
            raise StoreError(f"artifact store {url}: expected s3://bucket or s3://bucket/prefix; correct the URL")
        self.url = url.rstrip("/")
        self._policy = policy
        endpoint = s3_endpoint()
        self._endpoint = endpoint or "AWS"
        self._store = S3Store.from_url(
            self.url,
            config={"endpoint": endpoint} if endpoint else {},
            client_options={
                "allow_http": self._endpoint.startswith("http://"),
                "timeout": timedelta(seconds=policy.request_s),
                "connect_timeout": timedelta(seconds=min(10.0, policy.request_s)),
                **_without_proxy(self._endpoint),
            },
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=policy.request_s)},
        )

    def get(self, name: str) -> bytes | None:
        """The bytes of an object, None if it is absent."""
        return self._or_none(name, lambda: bytes(obstore.get(self._store, name).bytes()))

    def info(self, name: str) -> ObjectInfo | None:
        """Size, time and tag of an object, None if it is absent."""
        return self._or_none(name, lambda: _info(obstore.head(self._store, name)))

    def fetch(self, name: str, target: Path | None, *, most: int) -> FileRecord | None:
        """Read an object into the new file `target`, or only hash it; returns its record, None if it is absent.

        Reading stops soon after `most` bytes, whatever the object's size.
        """
        return self._or_none(name, lambda: self._stream(name, target, most))

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, replacing an existing one."""
        self._required(name, lambda: obstore.put(self._store, name, data))

    def create(self, name: str, data: bytes) -> str | None:
        """Write an object that must not exist; returns its tag, or None if it exists.

        A server without conditional writes overwrites.
        """
        return self._conditional(name, data, "create")

    def replace(self, name: str, data: bytes, e_tag: str) -> str | None:
        """Replace an object that must have this tag; returns its new tag, or None if it has another or is absent."""
        return self._conditional(name, data, {"e_tag": e_tag})

    def copy(self, source: str, target: str) -> None:
        """Copy an object on the server."""
        self._required(source, lambda: obstore.copy(self._store, source, target))

    def delete(self, name: str) -> None:
        """Remove an object if it exists."""
        self._or_none(name, lambda: obstore.delete(self._store, name))

    def listing(self, prefix: str) -> Iterator[ObjectInfo]:
        """All objects below a folder (all objects for ""), in the order of their names."""
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
                f"cannot use {self.url}/{name}: the server has no such object or bucket; create the bucket, or "
                f"check whether the object was removed ({_line(error)})"
            ) from error

    def _try(self, name: str, request: Callable[[], T]) -> T:
        """Send a request with retries; answers that a retry cannot change are raised at once."""
        waits, began, tries = self._policy.waits(), time.monotonic(), 0
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
                    raise  # of the local disk
                wait = None if _is_permanent(error) else next(waits, None)
                if wait is None:
                    spent = f"failed {tries} times in {time.monotonic() - began:.0f} s"
                    raise StorageUnavailable(
                        f"cannot use {self.url}/{name}: {self._endpoint} {spent}, last error: {_line(error)}. "
                        f"{_advice(error)}; finished artifacts are kept"
                    ) from error
                time.sleep(wait)


def _without_proxy(endpoint: str) -> "ClientConfig":
    """Options by which no proxy of the environment gets the requests to a server on this machine.

    A proxy that is named replaces those of the environment, and this one is excluded for all loopback addresses.
    """
    if urlsplit(endpoint).hostname not in _LOOPBACK:
        return {}
    return {"proxy_url": endpoint, "proxy_excludes": ",".join(_LOOPBACK)}


def s3_endpoint() -> str | None:
    """The endpoint named by the environment, None for AWS itself; obstore reads only one of the two variables."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(
        name=meta["path"],
        size=meta["size"],
        modified=meta["last_modified"].timestamp(),
        e_tag=meta["e_tag"] or "",
    )


def _is_permanent(error: Exception) -> bool:
    """Whether the server rejected the request itself: status 4xx, except timeouts and rate limits."""
    code = re.search(r"status code: (\d+)", str(error))
    return code is not None and code.group(1)[0] == "4" and code.group(1) not in ("408", "429")


def _advice(error: Exception) -> str:
    if "169.254" in str(error):
        return "No credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then run again"
    return "Check that the server runs and is reachable (AWS_ENDPOINT_URL), then run again"


def _line(error: Exception) -> str:
    return one_line(ValueError(str(error).split("Debug source")[0]))
