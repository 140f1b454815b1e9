"""A small HTTP server for pages of this machine's browsers.

It listens on 127.0.0.1 only. Pages of other sites cannot use it: the Host header must be the server's own (no DNS
rebinding), and a request that changes something must come from its own page (Origin) as JSON, which no form can send.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from pydantic import ValidationError

from spinmeround.storage.errors import ConfigError, SpinMeRoundError, validation_message

_LARGEST_BODY = 16_384
NEVER_CHANGES = "public, max-age=31536000, immutable"
"""Cache-Control of an answer that is the same for ever under its address."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The body of an answer, its type and how long a browser may keep it."""

    kind: str
    body: bytes
    cache: str = "no-store"

    @staticmethod
    def page(html: str) -> "Answer":
        """An HTML page."""
        return Answer(kind="text/html; charset=utf-8", body=html.encode())

    @staticmethod
    def json(value: Any) -> "Answer":
        """A JSON value."""
        return Answer(kind="application/json", body=json.dumps(value, allow_nan=False).encode())

    @staticmethod
    def picture(webp: bytes) -> "Answer":
        """A WebP picture that never changes."""
        return Answer(kind="image/webp", body=webp, cache=NEVER_CHANGES)


class Pages(Protocol):
    """What a server answers. None is an address that does not exist.

    A SpinMeRoundError is answered as a conflict, a pydantic ValidationError as an invalid message.
    """

    def get(self, path: str) -> Answer | None:
        """The answer to a request that changes nothing."""

    def post(self, path: str, body: bytes) -> Answer | None:
        """The answer to a message of the page."""


def page_server(pages: Pages, port: int) -> ThreadingHTTPServer:
    """A server of these pages on 127.0.0.1; port 0 picks a free one. Raises ConfigError if the port is taken."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"pages": pages}))
    except OSError as error:
        raise ConfigError(f"--port {port}: cannot listen there ({error.strerror}); choose another port") from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    pages: Pages

    def do_GET(self) -> None:
        self._guarded(lambda: self.pages.get(self.path))

    def do_POST(self) -> None:
        self._guarded(lambda: self.pages.post(self.path, self._body()))

    def _guarded(self, find: Callable[[], Answer | None]) -> None:
        try:
            if reason := self._foreign():
                self._refuse(HTTPStatus.FORBIDDEN, reason)
            elif (answer := find()) is None:
                self._refuse(HTTPStatus.NOT_FOUND, "not found")
            else:
                self._answer(HTTPStatus.OK, answer)
        except ValidationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"invalid message: {validation_message(error)}")
        except SpinMeRoundError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the tab was closed

    def _foreign(self) -> str:
        """Why a request does not come from this server's own page; empty if it does."""
        port = self.connection.getsockname()[1]
        hosts = (f"127.0.0.1:{port}", f"localhost:{port}")
        if self.headers.get("Host") not in hosts:
            return f"Host: expected {hosts[0]}"
        if self.command == "GET":
            return ""
        if self.headers.get("Origin", f"http://{hosts[0]}") not in [f"http://{host}" for host in hosts]:
            return "Origin: expected this server's own page"
        if self.headers.get_content_type() != "application/json":
            return "Content-Type: expected application/json"
        size = self.headers.get("Content-Length", "")
        if size.isdigit() and int(size) <= _LARGEST_BODY:
            return ""
        return f"Content-Length: expected at most {_LARGEST_BODY} bytes"

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, Answer.json({"error": reason}))

    def _answer(self, status: HTTPStatus, answer: Answer) -> None:
        self.send_response(status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", answer.cache)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a line per picture would hide the command's own output."""
