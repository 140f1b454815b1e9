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
        self.enabled = True
        """Whether there is anything to show to: outside of a flow run, Prefect would start a server of its own."""
        self._waiting: dict[object, tuple[Context, Callable[[], Any]]] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def show(
        self,
        function: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
        instead_of: str = "",
        first: bool = False,
        **kwargs: Any,
    ) -> None:
        """Call a function soon, for instance one of Prefect that creates an artifact; its errors are only logged.

        It takes the place of a call that waits under the same name, `instead_of`, and with `first` goes before all that
        wait: a server that is gone for a while leaves no row of outdated calls before the ones that matter.
        """
        if not self.enabled:
            return
        key = instead_of or object()
        with self._changed:
            self._waiting[key] = (context or copy_context(), partial(function, *args, **kwargs))
            if first:
                self._waiting = {key: self._waiting[key], **self._waiting}
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._work, name="shown", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, patience_s: float = CLOSING_S) -> None:
        """Send what is left, but give up after `patience_s`."""
        with self._changed:
            thread, self._thread, self._closing = self._thread, None, True
            self._changed.notify()
        if thread is not None:
            thread.join(patience_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                if not self._waiting:
                    return
                context, call = self._waiting.pop(next(iter(self._waiting)))
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
