"""The network of a command: loopback never goes through a proxy, and a server named by the user is checked first.

Nothing here imports Prefect, which takes seconds to import and over a minute to give up on a server that is gone.
"""

import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spinmeround.storage.errors import ConfigError, EnvironmentUnavailable, one_line

if TYPE_CHECKING:
    import httpx

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PROBE_TIMEOUT_S = 5.0
"""Time limit for one answer of the user's server, in seconds."""
_CLOUD = "https://api.prefect.cloud/"
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_USABLE = ("http", "https", "socks5", "socks5h")
"""Schemes of proxies that httpx supports; those of SOCKS need the module `socksio`."""


class ServerUnavailable(EnvironmentUnavailable):
    """The Prefect server that PREFECT_API_URL names does not answer as one."""


def bypass_proxies() -> None:
    """Exclude loopback from all proxies, for this process and its children, which inherit the environment.

    Extends NO_PROXY and no_proxy; httpx, urllib, websockets, curl and reqwest read one of the two, or both.
    """
    names = ("no_proxy", "NO_PROXY")
    given = [os.environ.get(name, "") for name in names]
    for name, own, other in zip(names, given, reversed(given), strict=True):
        hosts = [host.strip() for host in (own or other).split(",") if host.strip()]
        os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


def check_proxies(api: str | None) -> None:
    """Make sure that an HTTP client can be made: httpx raises for a proxy it cannot use, even if no request needs it.

    For a server on loopback (`api`, default: one of this command), which needs no proxy, such a proxy is removed from
    the environment. Raises ConfigError for any other server.
    """
    for name, problem in list(_unusable_proxies()):
        if api is not None and not is_loopback(api):
            raise ConfigError(f"{name}={os.environ[name]}: {problem}, or unset {name}")
        del os.environ[name]


def _unusable_proxies() -> Iterator[tuple[str, str]]:
    for name in (each for upper in _PROXIES for each in (upper, upper.lower())):
        url = os.environ.get(name, "")
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        if url and scheme not in _USABLE:
            yield name, f"expected a proxy of http, https or socks5, found {scheme!r}; name one of these"
        elif scheme.startswith("socks") and find_spec("socksio") is None:
            yield name, "a SOCKS proxy needs 'socksio', which is not installed: pip install \"httpx[socks]\""


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine by its loopback interface."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_server(api: str, *, patience_s: float) -> None:
    """Return if a Prefect server answers at PREFECT_API_URL, with the credentials of the environment.

    A server that answers 500 or above counts as busy for `patience_s`. Raises ServerUnavailable, in one line that names
    the variable, if nothing answers, another program does, or the server refuses the credentials.
    """
    deadline = time.monotonic() + patience_s
    while (problem := _problem(api)) is not None:
        busy, text = problem
        if not busy or time.monotonic() > deadline:
            raise ServerUnavailable(
                f"PREFECT_API_URL={_without_password(api)}: expected a Prefect server, found {text}"
            )
        time.sleep(0.5)


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn the loss of the server during the block into a ServerUnavailable."""
    import httpx

    try:
        yield
    except (httpx.TransportError, httpx.HTTPStatusError) as error:
        api = _without_password(os.environ.get("PREFECT_API_URL", ""))
        raise ServerUnavailable(
            f"the Prefect server at {api} does not answer any more ({one_line(error, 120)}); finished artifacts are "
            "kept: run the same command again"
        ) from error


def _problem(api: str) -> tuple[bool, str] | None:
    """Why the server can't be used, and whether it may only be busy; None if it can."""
    import httpx

    start = "; start it, or unset PREFECT_API_URL to let the command start its own"
    try:
        answer = _get(api)
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        return False, "no URL of one; name its API, as http://127.0.0.1:4200/api"
    except httpx.TimeoutException:
        return False, f"no answer within {PROBE_TIMEOUT_S:g} s{start}"
    except (httpx.HTTPError, OSError, ValueError) as error:
        return False, f"no answer ({one_line(error, 120)}){start}"
    if answer.status_code in (401, 403):
        return False, (
            f"one that refuses the credentials (status {answer.status_code}); set PREFECT_API_AUTH_STRING, or "
            "PREFECT_API_KEY for Prefect Cloud"
        )
    if answer.status_code >= 500:
        return True, f"one that fails (status {answer.status_code}); look at its log"
    if answer.status_code != 200 or not (api.startswith(_CLOUD) or _is_version(answer)):
        return False, (
            f"another program (status {answer.status_code}, {answer.headers.get('content-type', 'no type')}); name the "
            "API of the server, as http://127.0.0.1:4200/api"
        )
    return None


def _get(api: str) -> "httpx.Response":
    """The server's version, which needs credentials where the server has any; of Prefect Cloud its health."""
    import httpx

    headers = {str(name): str(value) for name, value in _custom_headers().items()}
    auth: tuple[str, str] | None = None
    verify: ssl.SSLContext | bool = True
    if key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    elif text := os.environ.get("PREFECT_API_AUTH_STRING"):
        user, _, password = text.partition(":")
        auth = user, password
    if os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in ("1", "true", "yes", "on"):
        verify = False
    elif certificate := os.environ.get("PREFECT_API_SSL_CERT_FILE"):
        verify = ssl.create_default_context(cafile=certificate)
    path = "health" if api.startswith(_CLOUD) else "admin/version"
    url = f"{api.rstrip('/')}/{path}"
    return httpx.get(url, headers=headers, auth=auth, verify=verify, timeout=PROBE_TIMEOUT_S, follow_redirects=True)


def _custom_headers() -> dict[object, object]:
    """Prefect's own setting for servers behind a gateway: a JSON object."""
    try:
        found = json.loads(os.environ.get("PREFECT_CLIENT_CUSTOM_HEADERS", "{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_version(answer: "httpx.Response") -> bool:
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, str) and re.match(r"\d+\.\d+", found) is not None


def _without_password(url: str) -> str:
    return re.sub(r"://[^/@]*@", "://", url)
