"""A local S3 server, and a proxy in front of it that injects faults."""

import http.client
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import boto3
from moto.server import ThreadedMotoServer

from spinmeround.storage.artifacts.s3_cache import ArtifactCache
from spinmeround.storage.s3 import ObjectClient, RetryPolicy

BUCKET = "heads"
QUICK = RetryPolicy(attempts=7, first_s=0.02, most_s=0.5, request_s=5.0)
__all__ = ["BUCKET", "QUICK", "ArtifactCache", "Faults", "ObjectClient", "S3Server", "proxied"]

Fault = int | str | float | None
"""A status to answer with, "cut" (half of the answer), "lost" (request served, no answer), or a delay in seconds."""


class S3Server:
    """moto's server in threads of this process; its objects survive `stop`."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        self.s3.create_bucket(Bucket=BUCKET)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, url: str | None = None) -> dict[str, str]:
        """Environment variables for a client."""
        return {
            "AWS_ENDPOINT_URL": url or self.url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    def names(self, prefix: str) -> list[str]:
        """All objects below a prefix, without it."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        return sorted(each["Key"].removeprefix(f"{prefix}/") for page in pages for each in page.get("Contents", []))

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()


class Faults:
    """Faults of the proxy: `plan(method, path, number)` chooses one for each request, in order of arrival."""

    def __init__(self) -> None:
        self.plan: Callable[[str, str, int], Fault] = lambda method, path, number: None
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and length of the body of all requests."""
        self._lock = Lock()
        self.url = ""

    def next(self, method: str, path: str, length: int) -> Fault:
        with self._lock:
            self.requests.append((method, path, length))
            return self.plan(method, path, len(self.requests))


@contextmanager
def proxied(target_port: int) -> Iterator[Faults]:
    """A proxy in front of the server; clients use its `url`."""
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = faults.next(self.command, self.path, len(body))
            if isinstance(fault, float):
                time.sleep(fault)
            if isinstance(fault, int):
                self._answer(fault, [], b"<Error><Code>SlowDown</Code></Error>")
                return
            connection = http.client.HTTPConnection("127.0.0.1", target_port, timeout=30)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
            except OSError:
                return  # the server is down: close the connection without an answer
            finally:
                connection.close()
            if fault == "lost":
                return
            self._answer(answer.status, answer.getheaders(), data, cut=fault == "cut")

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
            self.send_response(status)
            kept = [(name, value) for name, value in headers if name.lower() not in ("connection", "transfer-encoding")]
            if not any(name.lower() == "content-length" for name, _ in kept):
                kept.append(("Content-Length", str(len(data))))
            for name, value in kept:
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    faults.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield faults
    finally:
        server.shutdown()
        server.server_close()
