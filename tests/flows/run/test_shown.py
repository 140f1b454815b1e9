"""What is sent to the UI in the background."""

import threading
from contextvars import ContextVar

import httpx
import pytest

from spinmeround.flows.run.shown import ATTEMPTS, Shown

pytestmark = pytest.mark.fast
WHERE: ContextVar[str] = ContextVar("where", default="nowhere")


def test_calls_keep_their_order_and_context() -> None:
    """Each runs after the one before, in the context of the caller."""
    shown, seen = Shown(), list[tuple[int, str]]()
    for number, place in enumerate(("flow", "task", "flow")):
        WHERE.set(place)
        shown.show(lambda number: seen.append((number, WHERE.get())), number)
    shown.close()
    assert seen == [(0, "flow"), (1, "task"), (2, "flow")]


def test_a_server_that_is_gone_for_a_while() -> None:
    """Connection errors are tried again, up to a number of attempts; other errors are not. None is raised."""
    shown, attempts = Shown(pause_s=0.0), list[str]()

    def refused(name: str, times: int) -> None:
        attempts.append(name)
        if attempts.count(name) <= times:
            raise httpx.ConnectError("refused")

    def wrong() -> None:
        attempts.append("wrong")
        raise ValueError("no such key")

    shown.show(refused, "back", 2)
    shown.show(refused, "gone", 1000)
    shown.show(wrong)
    shown.show(attempts.append, "after")
    shown.close()
    counts = [attempts.count(name) for name in ("back", "gone", "wrong", "after")]
    assert counts == [3, ATTEMPTS, 1, 1]


def test_a_call_that_hangs_does_not_hold_up_the_end() -> None:
    """Closing gives up after its patience, and what hangs goes on in the background."""
    shown, release, done = Shown(), threading.Event(), threading.Event()
    shown.show(release.wait)
    shown.show(done.set)
    shown.close(patience_s=0.05)
    assert not done.is_set()
    release.set()
    assert done.wait(60)


def test_what_matters_does_not_wait_for_what_is_outdated() -> None:
    """While one call hangs, a newer one takes the place of one with the same name, and the first ones go first."""
    shown, begun, release, seen = Shown(), threading.Event(), threading.Event(), list[str]()

    def hang() -> None:
        begun.set()
        release.wait(60)

    shown.show(hang)
    assert begun.wait(60)
    for number in range(3):
        shown.show(seen.append, f"progress {number}", instead_of="progress")
    shown.show(seen.append, "picture")
    shown.show(seen.append, "outcome", first=True)
    release.set()
    shown.close()
    assert seen == ["outcome", "progress 2", "picture"]


def test_nothing_to_show() -> None:
    """A session that shows nothing starts no thread."""
    before = threading.active_count()
    Shown().close()
    assert threading.active_count() == before
