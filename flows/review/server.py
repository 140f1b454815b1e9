"""The review page of a run, written as one file or served to the browsers of this machine.

The server listens on 127.0.0.1 only. Pages of other sites cannot use it: the Host header must be the server's own (no
DNS rebinding), and a request that changes something must come from its own page (Origin) as JSON, which no form can
send. Each decision is written to the file, under its lock, before the request is answered.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, Field, ValidationError

from spinmeround.flows.run.session import Session
from spinmeround.storage.errors import ConfigError, SpinMeRoundError, environment_errors, validation_message
from spinmeround.storage.files import write_atomic
from spinmeround.storage.hashing import sha256_json
from spinmeround.storage.records import FrozenModel
from spinmeround.tasks.heads.screen import Verdict
from spinmeround.tasks.pictures.webp import webp_uri
from spinmeround.tasks.screening.decisions import (
    Choice,
    is_reviewed,
    load_decisions,
    mark_reviewed,
    record_unless_newer,
    review_digest,
)
from spinmeround.tasks.screening.review_page import (
    ReviewPage,
    limits_of,
    preview_strip,
    preview_strip_size,
    render_review,
)

_LARGEST_BODY = 16_384
_NEVER_CHANGES = "public, max-age=31536000, immutable"


class DecisionMessage(FrozenModel):
    """The page's decision on a head; `seen` is the time of the decision that the page showed before, if any."""

    id: str
    decision: Choice
    note: str = Field("", max_length=2000)
    seen: AwareDatetime | None = None


class ReviewedMessage(FrozenModel):
    """The page's message that the verdicts of this digest are reviewed."""

    digest: str


@dataclass(frozen=True, kw_only=True)
class ReviewBackend:
    """What the review page shows and changes; `command` is the command that continues the run afterwards."""

    session: Session
    verdicts: dict[str, Verdict]
    sample_keys: Mapping[str, str]
    """Keys of the sample artifacts, which hold the previews, by head id."""
    command: str

    @cached_property
    def digest(self) -> str:
        """Digest of the verdicts under review."""
        return review_digest(self.verdicts)

    @cached_property
    def storage_key(self) -> str:
        """Identifies this run among all runs on all machines: its marker file holds its time of creation."""
        session = self.session
        return sha256_json([str(session.decisions_file), session.folder.marker.read_text(encoding="utf-8")])[:16]

    def page(self, *, served: bool) -> ReviewPage:
        """The page, with the decisions that the file holds now."""
        session, names = self.session, list(self.verdicts)
        return ReviewPage(
            run=session.profile.name,
            storage_key=self.storage_key,
            verdicts=self.verdicts,
            decisions=load_decisions(session.decisions_file, session.generator),
            strips={name: f"strips/{self.sample_keys[name][:16]}/{name}.webp" for name in names},
            strip_size=preview_strip_size(self._sample(names[0])),
            limits=limits_of(session.profile.screen.limits),
            digest=self.digest,
            command=self.command,
            unscreened=len(session.heads) - len(names),
            served=served,
        )

    def strip(self, name: str) -> bytes:
        """The previews of a head in one row, as WebP."""
        return preview_strip(self._sample(name))

    def write(self, to: Path) -> None:
        """Write the page as one self-contained file."""
        page = replace(self.page(served=False), strips={name: webp_uri(self.strip(name)) for name in self.verdicts})
        with environment_errors(to):
            write_atomic(to.absolute(), render_review(page).encode())

    def decide(self, message: DecisionMessage) -> dict[str, Any]:
        """Save a decision unless the file has a newer one than the page showed; returns the decision in the file.

        Raises ConfigError for an unknown head.
        """
        if message.id not in self.verdicts:
            raise ConfigError(f"id: expected a head of this run, found {message.id!r}")
        new, session = (message.decision, message.note), self.session
        saved = record_unless_newer(session.decisions_file, session.generator, message.id, new, message.seen)
        return {"decision": saved.model_dump(mode="json"), "taken": (saved.decision, saved.note) == new}

    def reviewed(self, message: ReviewedMessage) -> None:
        """Mark the verdicts as reviewed. Raises ConfigError if the page shows other verdicts."""
        if message.digest != self.digest:
            raise ConfigError("this page shows other verdicts than its server; reload it")
        mark_reviewed(self.session.decisions_file, self.session.generator, self.digest)

    def tally(self) -> dict[str, str]:
        """Progress of the review and the command that continues the run, by label."""
        session = self.session
        file = load_decisions(session.decisions_file, session.generator)
        names = self.verdicts or [head.id for head in session.heads]
        decisions = [file.active().get(name) for name in names]
        keep, drop = decisions.count("keep"), decisions.count("drop")
        done = ", reviewed" if self.verdicts and is_reviewed(self.verdicts, file) else ""
        return {
            "decided": f"{keep + drop} of {len(decisions)} heads: {keep} keep, {drop} drop{done}",
            "decisions": str(session.decisions_file),
            "continue": self.command,
        }

    def _sample(self, name: str) -> Path:
        return self.session.store.verify("sample", self.sample_keys[name]).path


def open_review(session: Session, command: str, *, may_be_empty: bool = False) -> ReviewBackend:
    """The backend for the screened heads of a run. Raises ConfigError if no head is screened, unless `may_be_empty`."""
    verdicts = session.screen_verdicts()
    if not verdicts and not may_be_empty:
        raise ConfigError(
            f"run folder {session.folder.root}: expected heads screened with these parameters, found none; "
            "run 'spinmeround stage NAME' for sample, score and screen with the same options first"
        )
    sample_keys = {name: session.keys[name]["sample"] for name in verdicts}
    return ReviewBackend(session=session, verdicts=verdicts, sample_keys=sample_keys, command=command)


def review_server(backend: ReviewBackend, port: int) -> ThreadingHTTPServer:
    """A server of the review page on 127.0.0.1; port 0 picks a free one. Raises ConfigError if the port is taken."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"backend": backend}))
    except OSError as error:
        raise ConfigError(f"--port {port}: cannot listen there ({error.strerror}); choose another port") from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    backend: ReviewBackend

    def do_GET(self) -> None:
        self._guarded(self._get)

    def do_POST(self) -> None:
        self._guarded(self._post)

    def _get(self) -> None:
        if self.path == "/":
            page = render_review(self.backend.page(served=True))
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", page.encode())
        elif self.path == "/decisions":
            session = self.backend.session
            self._json(load_decisions(session.decisions_file, session.generator).model_dump(mode="json"))
        elif self.path.startswith("/strips/") and (name := Path(self.path).stem) in self.backend.verdicts:
            self._answer(HTTPStatus.OK, "image/webp", self.backend.strip(name), cache=_NEVER_CHANGES)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def _post(self) -> None:
        if self.path == "/decisions":
            self._json(self.backend.decide(DecisionMessage.model_validate_json(self._body())))
        elif self.path == "/reviewed":
            self.backend.reviewed(ReviewedMessage.model_validate_json(self._body()))
            self._json({})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "not found")

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            if reason := self._foreign():
                self._refuse(HTTPStatus.FORBIDDEN, reason)
            else:
                act()
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

    def _json(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._answer(status, "application/json", json.dumps(value, allow_nan=False).encode())

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._json({"error": reason}, status)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, cache: str = "no-store") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", cache)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a line per picture would hide the review's own output."""
