"""Waiting for a condition with a limit that holds on a busy machine."""

import time
from collections.abc import Callable
from typing import Any

import pytest

LIMIT_S = 240.0
"""Far more than any condition needs on a quiet machine: a loaded one may be twenty times slower."""


def until(condition: Callable[[], Any], *, limit_s: float = LIMIT_S, interval_s: float = 0.1) -> Any:
    """The first true value of the condition; fails the test if there is none within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"condition still false after {limit_s:g} s: {condition}")
        time.sleep(interval_s)
    return found
