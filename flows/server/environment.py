"""The environment variables that HTTP clients read: loopback never goes through a proxy, and bad values are named.

httpx reads proxies and certificates when it makes a client, and raises its own errors even if no request needs them.
Nothing here imports Prefect, which reads these variables, too.
"""

import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from spinmeround.storage.errors import ConfigError, one_line, shortened

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("all_proxy", "https_proxy", "http_proxy")
_USABLE = ("http", "https", "socks5", "socks5h")
"""Schemes of proxies that httpx supports; those of SOCKS need the module `socksio`."""
_PLAIN_HOST = re.compile(r"[A-Za-z0-9*._-]+(/\d+)?")
"""Names, IPv4 addresses and IPv4 networks of NO_PROXY, which every client reads."""
_HEADERS, _KEY = "PREFECT_CLIENT_CUSTOM_HEADERS", "PREFECT_API_KEY"


def bypass_proxies(*more: str) -> None:
    """Exclude loopback, and more hosts of this machine, from all proxies, for this process and its children.

    Extends NO_PROXY and no_proxy, which children inherit; httpx, urllib, websockets, curl and reqwest read one of the
    two, or both. Entries that httpx can't read are rewritten (`[::1]` as `::1`), or dropped (IPv6 networks, which no
    Python client supports).
    """
    names = ("no_proxy", "NO_PROXY")
    given = [os.environ.get(name, "") for name in names]
    for name, own, other in zip(names, given, reversed(given), strict=True):
        entries = (_readable_host(entry.strip()) for entry in (own or other).split(","))
        hosts = [host for host in entries if host]
        os.environ[name] = ",".join([*hosts, *(host for host in (*LOOPBACK, *more) if host not in hosts)])


def check_environment(api: str | None) -> None:
    """Make sure that an HTTP client for the Prefect server `api` can be made (default: a server of this command).

    Raises ConfigError, which begins with the variable at fault. A proxy that can't be used is an error only for a
    server that is not on loopback; else it is removed from the environment.
    """
    for name, problem in list(_unusable_proxies()):
        if api is not None and not is_loopback(api):
            raise ConfigError(f"{name}={without_password(os.environ[name])}: {problem}, or unset {name}")
        del os.environ[name]
    _check_certificates()
    _check_headers()


def custom_headers() -> dict[str, str]:
    """Prefect's own setting for servers behind a gateway; raises ConfigError for what is no JSON object of text."""
    text = os.environ.get(_HEADERS) or "{}"
    expected = f'{_HEADERS}: expected a JSON object of texts, as {{"X-Token": "abc"}}, '
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{expected}found none that can be read ({one_line(error, 120)})") from error
    if not isinstance(found, Mapping):
        raise ConfigError(f"{expected}found {shortened(type(found).__name__, 80)}")
    wrong = next((name for name, value in found.items() if not isinstance(value, str)), None)
    if wrong is not None:
        raise ConfigError(f"{expected}found {type(found[wrong]).__name__} for {shortened(repr(wrong), 80)}")
    return dict(found)


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine by its loopback interface."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def without_password(url: str) -> str:
    """The URL without its user and password; the scheme may be missing."""
    return re.sub(r"^([^:/@]*://)?.*@", r"\1", url)


def _readable_host(entry: str) -> str | None:
    """The entry of NO_PROXY as httpx can read it; None if it can't."""
    if not entry or _PLAIN_HOST.fullmatch(entry):
        return entry or None
    import httpx

    bare = re.sub(r"^\[([^\]]*)\]$", r"\1", entry)
    try:
        network = ip_network(bare)
        if network.version == 6:
            return bare.removesuffix("/128") if network.num_addresses == 1 else None
    except ValueError:
        pass  # no address
    try:
        host = bare if bare.isascii() else bare.encode("idna").decode("ascii")
        httpx.URL(host if "://" in host else f"all://*{host}")
    except (httpx.InvalidURL, ValueError):
        return None
    return host


def _unusable_proxies() -> Iterator[tuple[str, str]]:
    import httpx

    for name, url in sorted(os.environ.items()):
        if name.lower() not in _PROXIES or not url:
            continue
        scheme = url.partition("://")[0].lower() if "://" in url else "http"
        try:
            found = httpx.URL(url if "://" in url else f"http://{url}")
            readable = bool(found.host) and (found.port is None or found.port < 2**16)
        except (httpx.InvalidURL, ValueError):
            readable = False
        if scheme not in _USABLE:
            yield name, f"expected a proxy of http, https or socks5, found {scheme!r}; name one of these"
        elif not readable:
            yield name, "expected the URL of a proxy, found none that can be read; write http://HOST:PORT"
        elif scheme.startswith("socks") and find_spec("socksio") is None:
            yield name, "a SOCKS proxy needs 'socksio', which is not installed: pip install \"httpx[socks]\""


def _check_certificates() -> None:
    """Raises ConfigError for a variable that names no file of certificates."""
    for name in ("PREFECT_API_SSL_CERT_FILE", "SSL_CERT_FILE"):
        if path := os.environ.get(name):
            try:
                ssl.create_default_context(cafile=path)
            except (OSError, ValueError) as error:
                raise ConfigError(
                    f"{name}={path}: expected a file of certificates (PEM), found none that can be read "
                    f"({one_line(error, 120)}); name one, or unset {name}"
                ) from error


def _check_headers() -> None:
    """Raises ConfigError for a header that can't be sent: it is visible ASCII on one line."""
    for name, value in custom_headers().items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ConfigError(f"{_HEADERS}: expected names of headers, found {shortened(ascii(name), 80)}")
        if not _sendable(value):
            raise ConfigError(f"{_HEADERS}: {name}: expected printable ASCII on one line, found other characters")
    if not _sendable(os.environ.get(_KEY, "")):
        raise ConfigError(f"{_KEY}: expected printable ASCII on one line, found other characters")


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()
