"""The request to end a training: SIGTERM, after which it completes its step, leaves a checkpoint and raises
Interrupted."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TEMPORARY_FAILURE = 75
"""Exit status of a process that was asked to end and that can continue: EX_TEMPFAIL of sysexits.h."""


@contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM arrived since the block began; in a thread other than the main one, never."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield received.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
