"""Locks on an object store: an object that only one can create, and that its holder keeps renewing.

A waiter that sees the same tag for the whole lease, by its own clock, takes the lock of a dead holder over, by
a write that only succeeds while the tag is that. Where the server has no conditional writes two may hold the
lock at once; they then make the same artifact twice, which costs time and nothing else.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from spinmeround.storage.errors import StorageUnavailable
from spinmeround.storage.s3.client import ObjectClient


@dataclass
class Waiting:
    """What a waiter has seen of the holder: the lock's tag, and since when."""

    e_tag: str = ""
    since: float = field(default_factory=time.monotonic)

    def expired(self, e_tag: str, lease_s: float) -> bool:
        """Whether the holder has not renewed the lock for a lease."""
        if e_tag != self.e_tag:
            self.e_tag, self.since = e_tag, time.monotonic()
        return time.monotonic() - self.since > lease_s


@contextmanager
def object_lock(client: ObjectClient, name: str, *, lease_s: float, timeout_s: float | None) -> Iterator[None]:
    """Hold the lock object `name`. Raises TimeoutError where another holds it after `timeout_s`."""
    token = secrets.token_hex(8)
    e_tag = _acquire(client, name, token, lease_s, timeout_s)
    ended = threading.Event()
    renewal = threading.Thread(target=_renew, args=(client, name, token, e_tag, lease_s, ended), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        _release(client, name, token)


def _acquire(client: ObjectClient, name: str, token: str, lease_s: float, timeout_s: float | None) -> str:
    began, seen, pause = time.monotonic(), Waiting(), 0.05
    while True:
        if (e_tag := client.create(name, _body(token, 0))) is not None:
            return e_tag
        there = client.info(name)
        if there is not None:
            if _is_ours(client, name, token):  # the answer to an earlier try was lost
                return there.e_tag
            if seen.expired(there.e_tag, lease_s):
                e_tag = client.replace(name, _body(token, 0), there.e_tag)
                if e_tag is not None:
                    return e_tag
        if timeout_s is not None and time.monotonic() - began >= timeout_s:
            raise TimeoutError(f"{client.url}/{name} is held by another process")
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def _renew(client: ObjectClient, name: str, token: str, e_tag: str, lease_s: float, ended: threading.Event) -> None:
    turn = 0
    while not ended.wait(lease_s / 4):
        turn += 1
        with suppress(StorageUnavailable):
            renewed = client.replace(name, _body(token, turn), e_tag)
            if renewed is not None:
                e_tag = renewed
            elif not _is_ours(client, name, token):
                return


def _release(client: ObjectClient, name: str, token: str) -> None:
    """Another's lock stays; one that can't be removed now expires."""
    with suppress(StorageUnavailable):
        if _is_ours(client, name, token):
            client.delete(name)


def _is_ours(client: ObjectClient, name: str, token: str) -> bool:
    return (client.get(name) or b"").startswith(token.encode())


def _body(token: str, turn: int) -> bytes:
    return f"{token} {turn}\n".encode()
