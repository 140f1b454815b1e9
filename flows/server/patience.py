"""How long requests to a server are repeated: no longer once it is clear that it is gone."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from spinmeround.flows.server.process import healthy

GONE_S = 45.0
"""Time without an answer after which a server counts as gone, in seconds: one that is started again is back by then."""
_EVERY_S = 3.0


@contextmanager
def limited_patience(api: str, gone_s: float = GONE_S, every_s: float = _EVERY_S) -> Iterator[None]:
    """Repeat no request during the block while the server has not answered for `gone_s`.

    Prefect repeats each request for about a minute, and a run that ends without its server makes several. A server that
    does not answer here at first may be reached by a proxy, and changes nothing.
    """
    from prefect.settings import get_current_settings

    if not healthy(api):
        yield
        return
    client = get_current_settings().client
    retries, ended = client.max_retries, threading.Event()

    def watch() -> None:
        answered = time.monotonic()
        while not ended.wait(every_s):
            if healthy(api):
                answered = time.monotonic()
            client.max_retries = retries if time.monotonic() - answered < gone_s else 0

    watching = threading.Thread(target=watch, name="patience", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
        client.max_retries = retries
