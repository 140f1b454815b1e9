"""Health checks of a server: a busy one is waited for, a missing one is not."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest

from spinmeround.flows.run.outcome import link
from spinmeround.flows.server import process
from spinmeround.flows.server.deployments import serve_all
from spinmeround.flows.server.process import announce, free_port, healthy, running_server
from spinmeround.storage.errors import ConfigError
from tests.support.http import serving

pytestmark = pytest.mark.fast


@contextmanager
def answering(*statuses: int) -> Iterator[str]:
    """A server whose health checks have these statuses, the last one from then on; yields its API."""
    left = list(statuses)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as api:
        yield api


@pytest.mark.parametrize(
    ("statuses", "patience_s", "expected"),
    [((200,), 0.0, True), ((503,), 0.0, False), ((503, 503, 200), 60.0, True), ((503,), 0.5, False)],
    ids=["ready", "busy", "busy at first", "busy for too long"],
)
def test_a_busy_server_is_waited_for(statuses, patience_s, expected):
    """An answer of 503 counts as busy for as long as the patience lasts."""
    with answering(*statuses) as api:
        assert healthy(api, patience_s=patience_s) is expected


def test_a_missing_server_is_not_waited_for():
    """If nothing listens on the port, the answer is immediate."""
    began = time.monotonic()
    assert not healthy(f"http://127.0.0.1:{free_port()}/api", patience_s=600.0)
    assert time.monotonic() - began < 60


def test_health_checks_bypass_proxies(monkeypatch):
    """A proxy in the environment does not receive requests to this machine."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with answering(200) as api:
        assert healthy(api)


def test_pages_of_a_server_are_linked(tmp_path, monkeypatch):
    """What a process shows links to the files that the server serves, with names as in a URL."""
    monkeypatch.setattr(process.os, "environ", dict(process.os.environ))
    process.link_pages(tmp_path)
    shown = link(tmp_path / "my run" / "report.html", "report")
    assert shown == "[report](/files/my%20run/report.html)"


def test_an_announced_server_is_found_while_it_is_busy(tmp_path, monkeypatch):
    """Commands wait for the announced server instead of starting a second one on its database."""
    assert running_server(tmp_path) is None
    monkeypatch.setattr(process, "BUSY_S", 60)
    with answering(503, 200) as api:
        announce(tmp_path, api, tmp_path)
        assert running_server(tmp_path) == api


@pytest.mark.parametrize(
    ("host", "api"),
    [
        ("127.0.0.1", "http://127.0.0.1:4200/api"),
        ("0.0.0.0", "http://127.0.0.1:4200/api"),
        ("::", "http://[::1]:4200/api"),
        ("192.0.2.7", "http://192.0.2.7:4200/api"),
        ("fd00::2", "http://[fd00::2]:4200/api"),
    ],
)
def test_the_api_that_clients_of_this_machine_reach(host, api):
    """A server on all networks is reached by the loopback address, one on a single address by that."""
    assert process.api_of(4200, host) == api


def test_an_address_of_another_machine_is_refused(tmp_path):
    """192.0.2.0/24 is for documentation: no machine has such an address."""
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.77, --port \d+: expected an address of this machine"):
        process.ServerProcess(tmp_path, port=free_port(), host="192.0.2.77")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "heads.example"])
def test_other_machines_need_a_password(host, tmp_path, monkeypatch):
    """A server that others reach starts nothing without one."""
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    with pytest.raises(ConfigError, match=f"--host {host}: .* set PREFECT_SERVER_API_AUTH_STRING"):
        serve_all(tmp_path, 4200, host=host)
    assert list(tmp_path.iterdir()) == []
