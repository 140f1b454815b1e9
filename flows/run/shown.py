"""What people look at in the UI, sent in the background: a server that is slow, fails or is gone delays no run.

Prefect's functions raise what their requests raise. Here each is called in a thread of the session, again while the
server does not answer, and given up after that with a line in the log.
"""

import base64
import io
import logging
import threading
import time
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

from PIL import Image

ATTEMPTS = 6
PAUSE_S = 3.0
"""Attempts to send one artifact, and the time between them, in seconds."""
CLOSING_S = 30.0
"""How long the end of a run waits for what is still to be sent, in seconds."""
_WIDTH = 1200
"""Largest width of a picture, in pixels."""
_logger = logging.getLogger(__name__)


class Shown:
    """Calls functions one after another in a thread, in the context in which each was handed over."""

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._queue: SimpleQueue[tuple[Context, Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def show(self, function: Callable[..., Any], *args: Any, context: Context | None = None, **kwargs: Any) -> None:
        """Call a function soon, for instance one of Prefect that creates an artifact; its errors are only logged."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="shown", daemon=True)
                self._thread.start()
        self._queue.put((context or copy_context(), partial(function, *args, **kwargs)))

    def close(self, patience_s: float = CLOSING_S) -> None:
        """Send what is left, but give up after `patience_s`."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(patience_s)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            context, call = item
            context.copy().run(self._attempt, call)

    def _attempt(self, call: Callable[[], Any]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                call()
                return
            except Exception as error:
                if attempt == ATTEMPTS or not _is_connection(error):
                    _logger.debug("not shown in the UI", exc_info=True)
                    return
            time.sleep(self._pause_s)


def picture_markdown(picture: Image.Image, text: str) -> str:
    """A picture in Markdown, compressed, and no wider than a page."""
    buffer, small = io.BytesIO(), picture.copy()
    small.thumbnail((_WIDTH, picture.height))
    small.save(buffer, format="WEBP", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"![{text}](data:image/webp;base64,{data})"


def _is_connection(error: Exception) -> bool:
    import httpx

    return isinstance(error, httpx.TransportError | httpx.HTTPStatusError)
