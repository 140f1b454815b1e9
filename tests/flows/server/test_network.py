"""The network of a command: loopback bypasses proxies, and a dead server is reported in one line, in seconds."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from spinmeround.flows.cli import app as cli
from spinmeround.flows.server import environment as client_environment
from spinmeround.flows.server.environment import bypass_proxies, check_environment
from spinmeround.flows.server.network import ServerUnavailable, check_server, server_errors
from spinmeround.flows.server.process import configure, free_port, prefect_server
from spinmeround.storage.errors import ConfigError, EnvironmentUnavailable
from tests.support.http import serving

pytestmark = pytest.mark.fast
CASES = Path(__file__).parents[2] / "cases"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies and no settings of Prefect but those of the test; whatever it sets is undone."""
    for name in [*os.environ, *NAMES, *map(str.upper, NAMES), "PREFECT_API_URL", "PREFECT_HOME"]:
        if name.startswith(("PREFECT_", "SSL_CERT")) or name.lower() in NAMES:
            monkeypatch.setenv(name, "")  # so that the test's own changes are undone, too
            monkeypatch.delenv(name)


@contextmanager
def answering(status: int, body: bytes = b'"3.9.1"', kind: str = "application/json") -> Iterator[str]:
    """A server that gives one answer to `GET /api/admin/version`, if it is asked with the password `secret`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            locked = self.path != "/api/admin/version" or self.headers["Authorization"] is None
            self.send_response(401 if status == 401 and locked else 200 if status == 401 else status)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as api:
        yield api


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"no_proxy": "a.org, localhost"}, "a.org,localhost,127.0.0.1,::1"),
        ({"NO_PROXY": "a.org"}, "a.org,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "*"}, "*,127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "10.0.0.0/8,fe80::/10,fd00::/8, a.org:80"}, "10.0.0.0/8,a.org:80,127.0.0.1,localhost,::1"),
        (
            {"NO_PROXY": "[::1],[fd00::2],fd00::3/128,fe80::1%eth0"},
            "::1,fd00::2,fd00::3,fe80::1%eth0,127.0.0.1,localhost",
        ),
        ({"NO_PROXY": "a.org:bad,ü.org,a..ü,[::1"}, "xn--tda.org,127.0.0.1,localhost,::1"),
    ],
    ids=["none", "lower case", "upper case", "everything", "networks", "addresses", "unreadable"],
)
def test_loopback_is_excluded_from_proxies(given, expected, monkeypatch):
    """The user's own exclusions stay if httpx can read them, both spellings are set; a second call changes nothing."""
    for name, value in {"http_proxy": "http://127.0.0.1:9", **given}.items():
        monkeypatch.setenv(name, value)
    for _ in range(2):
        bypass_proxies()
        assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == expected
        httpx.Client().close()


def test_every_command_excludes_loopback(monkeypatch):
    """Before it runs, so that an object store on this machine is reached directly, too."""
    seen: list[str] = []
    monkeypatch.setattr(cli, "app", lambda: seen.append(os.environ["no_proxy"]))
    cli.main()
    assert seen == ["127.0.0.1,localhost,::1"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_requests_to_loopback_arrive_behind_a_dead_proxy(host, tmp_path, monkeypatch):
    """httpx, urllib and a child process reach a server of this machine although every proxy is dead."""
    for name in NAMES[:3]:
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    configure(tmp_path, quiet=True)
    with answering(200) as api:
        url = f"{api.replace('127.0.0.1', host)}/admin/version"
        assert httpx.get(url).json() == "3.9.1"
        assert urllib.request.urlopen(url).status == 200
        script = f"import urllib.request; print(urllib.request.urlopen({url!r}).status)"
        assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "200"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks4://127.0.0.1:9", "foo://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_an_error_only_where_it_is_needed(proxy, monkeypatch):
    """httpx refuses to make a client: for loopback the variable is removed, for another server it is named."""
    monkeypatch.setattr(client_environment, "find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigError, match=rf"^ALL_PROXY={proxy}: .*unset ALL_PROXY$"):
        check_environment("http://prefect.example.org/api")
    with pytest.raises((ImportError, ValueError)):
        httpx.Client()
    check_environment("http://127.0.0.1:4200/api")
    httpx.Client().close()
    monkeypatch.setenv("all_proxy", proxy)
    check_environment(None)
    httpx.Client().close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "All_Proxy"])
@pytest.mark.parametrize(
    "proxy", ["http://[::1", "127.0.0.1:notaport", "http://", "me:secret@a:port", "http://a:99999"]
)
def test_a_proxy_that_is_no_url_is_named_without_its_password(name, proxy, monkeypatch):
    """For a server elsewhere; for one on loopback a client can be made without it."""
    monkeypatch.setenv(name, proxy)
    with pytest.raises(ConfigError, match=rf"^{name}=.*expected the URL of a proxy.*, or unset {name}$") as raised:
        check_environment("http://prefect.example.org/api")
    assert "secret" not in str(raised.value)
    check_environment(None)
    httpx.Client().close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SSL_CERT_FILE", "/nowhere.pem", r"=/nowhere.pem: expected a file of certificates \(PEM\), found none"),
        ("PREFECT_API_SSL_CERT_FILE", "/nowhere.pem", "=/nowhere.pem: expected a file of certificates"),
        ("PREFECT_API_SSL_CERT_FILE", str(CASES / "dead_api/README"), "=.*README: expected a file of certificates"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Name": "ä"}', ": X-Name: expected printable ASCII"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Name": "a\\nb"}', ": X-Name: expected printable ASCII"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"ä b": "a"}', ": expected names of headers, found '.xe4 b'"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", '{"X-Name": 3}', ": expected a JSON object of texts.*found int for 'X-Name'"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", "[]", ": expected a JSON object of texts.*found list"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", "{", ": expected a JSON object of texts.*found none that can be read"),
        ("PREFECT_API_KEY", "schlüssel", ": expected printable ASCII"),
    ],
)
def test_the_variable_at_fault_is_named(name, value, message, tmp_path, monkeypatch):
    """Before any server is asked or started, and not PREFECT_API_URL."""
    monkeypatch.setenv(name, value)
    for api in ("", f"http://127.0.0.1:{free_port()}/api"):
        monkeypatch.setenv("PREFECT_API_URL", api)
        with pytest.raises(ConfigError, match=f"^{name}{message}"), prefect_server(tmp_path):
            pass


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b"", "text/html", r"another program \(status 404, text/html\)"),
        (200, b"<html>", "text/html", r"another program \(status 200, text/html\)"),
        (200, b"{}", "application/json", r"another program \(status 200"),
        (401, b'"3.9.1"', "application/json", r"refuses the credentials \(status 401\); set PREFECT_API_AUTH_STRING"),
        (403, b"", "text/plain", "refuses the credentials"),
        (503, b"", "text/plain", r"one that fails \(status 503\)"),
    ],
    ids=["no such page", "a page", "other JSON", "locked", "forbidden", "failing"],
)
def test_a_server_that_is_none_is_named(status, body, kind, message):
    """One line that names PREFECT_API_URL, and what is there instead."""
    with answering(status, body, kind) as api, pytest.raises(ServerUnavailable, match=message) as raised:
        check_server(api, patience_s=0.6)
    assert str(raised.value).startswith(f"PREFECT_API_URL={api}: expected a Prefect server, found ")
    assert "\n" not in str(raised.value)


def test_a_server_is_accepted(monkeypatch):
    """With the right credentials where it has any."""
    with answering(200) as api:
        check_server(api, patience_s=0)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:secret")
    with answering(401) as api:
        check_server(api, patience_s=0)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:{port}/api", "no answer .*start it, or unset PREFECT_API_URL"),
        ("http://user:secret@127.0.0.1:{port}/api", "no answer"),
        ("127.0.0.1:4200/api", "no URL of one; name its API, as http://127.0.0.1:4200/api"),
        ("http://[::1/api", "no URL|no answer"),
        ("ftp://127.0.0.1/api", "no URL of one"),
    ],
    ids=["nothing listens", "password", "no scheme", "half an address", "ftp"],
)
def test_a_dead_server_is_one_line_within_seconds(url, message, tmp_path, monkeypatch):
    """Before Prefect is imported, and without the password."""
    monkeypatch.setenv("PREFECT_API_URL", url.format(port=free_port()))
    began = time.monotonic()
    with pytest.raises(EnvironmentUnavailable, match=message) as raised, prefect_server(tmp_path):
        pass
    assert time.monotonic() - began < 20
    assert str(raised.value).startswith("PREFECT_API_URL=")
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_server_that_vanishes_is_one_line():
    """The client's exception becomes ours; any other passes."""
    with pytest.raises(ServerUnavailable, match="does not answer any more"), server_errors():
        httpx.get(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(KeyError), server_errors():
        raise KeyError


def run_case(name: str, tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command line in the environment of a case: NAME=VALUE lines."""
    lines = (CASES / name / "environment").read_text(encoding="utf-8").split()
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    root = Path(__file__).parents[3]
    return subprocess.run(
        [sys.executable, "-c", "from spinmeround.flows.cli.app import main; main()", *arguments],
        env=own | {"PYTHONPATH": str(root)} | dict(line.split("=", 1) for line in lines),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_line_names_a_dead_server(tmp_path):
    """`spinmeround build` with a dead PREFECT_API_URL: exit status 2 and one line."""
    done = run_case("dead_api", tmp_path, "build")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("error: PREFECT_API_URL=http://127.0.0.1:9/api: expected a Prefect server")
