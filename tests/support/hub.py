"""A local server with the part of the hub's API that huggingface_hub uses to download files."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


@dataclass
class FakeHub:
    """`files` by "owner/name/path"; if `cut` is set, transfers end after that many bytes."""

    files: dict[str, bytes]
    endpoint: str = ""
    cut: int | None = None
    gated: bool = False
    wrong: bool = False
    """State a wrong SHA-256."""
    gets: list[tuple[str, str | None]] = field(default_factory=list)
    """Requested files, each with its range."""


@contextmanager
def fake_hub(files: dict[str, bytes]) -> Iterator[FakeHub]:
    """Run the server during the block."""
    hub = FakeHub(files)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            repository, _, rest = self.path.lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            data = hub.files.get(f"{repository}/{name}")
            if hub.gated or data is None or revision not in ("main", COMMIT):
                self.send_response(403 if hub.gated else 404)
                self.send_header("X-Error-Code", "GatedRepo" if hub.gated else "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted = self.headers.get("Range")
            start = int(wanted.removeprefix("bytes=").split("-")[0]) if body and wanted else 0
            if body:
                hub.gets.append((name, wanted))
            self.send_response(206 if start else 200)
            stated = data + (b"!" if hub.wrong else b"")
            blob = hashlib.sha1(b"blob %d\0" % len(stated) + stated).hexdigest()
            self.send_header("ETag", f'"{blob if name.endswith(".json") else hashlib.sha256(stated).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if body:
                end = len(data) if hub.cut is None else max(start, hub.cut)
                self.wfile.write(data[start:end])
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
