"""Locks on an object store: an object that one client creates and then keeps renewing.

A waiter that sees the same tag for the duration of the lease, by its own clock, takes the lock over, with a write that
succeeds only if the tag is unchanged. On a server without conditional writes, two clients may hold the lock; they then
make the same artifact twice, which only costs time.
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
    """The tag of the lock that a waiter has seen, and since when."""

    e_tag: str = ""
    since: float = field(default_factory=time.monotonic)

    def expired(self, e_tag: str, lease_s: float) -> bool:
        """Whether the tag has not changed for the duration of the lease."""
        if e_tag != self.e_tag:
            self.e_tag, self.since = e_tag, time.monotonic()
        return time.monotonic() - self.since > lease_s


@contextmanager
def object_lock(
    client: ObjectClient, name: str, *, lease_s: float, timeout_s: float | None, seen: Waiting | None = None
) -> Iterator[None]:
    """Hold the lock object `name`. Raises TimeoutError if another client still holds it after `timeout_s`.

    `seen` is what earlier attempts have seen of it; this one adds to it.
    """
    token = secrets.token_hex(8)
    e_tag = _acquire(client, name, token, lease_s, timeout_s, seen or Waiting())
    released = threading.Event()
    renewal = threading.Thread(target=_renew, args=(client, name, token, e_tag, lease_s, released), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        released.set()
        renewal.join()
        _release(client, name, token)


def _acquire(
    client: ObjectClient, name: str, token: str, lease_s: float, timeout_s: float | None, seen: Waiting
) -> str:
    began, pause = time.monotonic(), 0.05
    while True:
        if (e_tag := client.create(name, _body(token, 0))) is not None:
            return e_tag
        found = client.info(name)
        if found is not None:
            if _is_ours(client, name, token):  # the answer to an earlier request was lost
                return found.e_tag
            if seen.expired(found.e_tag, lease_s):
                e_tag = client.replace(name, _body(token, 0), found.e_tag)
                if e_tag is not None:
                    return e_tag
        if timeout_s is not None and time.monotonic() - began >= timeout_s:
            raise TimeoutError(f"{client.url}/{name} is held by another process")
        time.sleep(pause)
        pause = min(1.0, pause * 1.5)


def _renew(client: ObjectClient, name: str, token: str, e_tag: str, lease_s: float, released: threading.Event) -> None:
    turn = 0
    while not released.wait(lease_s / 4):
        turn += 1
        with suppress(StorageUnavailable):
            renewed = client.replace(name, _body(token, turn), e_tag)
            if renewed is not None:
                e_tag = renewed
            elif not _is_ours(client, name, token):
                return


def _release(client: ObjectClient, name: str, token: str) -> None:
    """Remove the lock if it is ours; if that fails, it expires."""
    with suppress(StorageUnavailable):
        if _is_ours(client, name, token):
            client.delete(name)


def _is_ours(client: ObjectClient, name: str, token: str) -> bool:
    return (client.get(name) or b"").startswith(token.encode())


def _body(token: str, turn: int) -> bytes:
    return f"{token} {turn}\n".encode()
