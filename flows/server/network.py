"""The Prefect server that a user names is checked before anything connects to it.

Nothing here imports Prefect, which takes seconds to import and over a minute to give up on a server that is gone.
"""

import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from spinmeround.flows.server.environment import custom_headers, without_password
from spinmeround.storage.errors import EnvironmentUnavailable, one_line

if TYPE_CHECKING:
    import httpx

PROBE_TIMEOUT_S = 5.0
"""Time limit for one answer of the user's server, in seconds."""
_CLOUD = "https://api.prefect.cloud/"


_GIVEN_UP = "Retry handling ended"
"""Begin of Prefect's assertion where the allowed repetitions became fewer while it waited for the next one."""


class ServerUnavailable(EnvironmentUnavailable):
    """The Prefect server that PREFECT_API_URL names does not answer as one."""


def check_server(api: str, *, patience_s: float) -> None:
    """Return if a Prefect server answers at PREFECT_API_URL, with the credentials of the environment.

    A server that answers 500 or above counts as busy for `patience_s`. Raises ServerUnavailable, in one line that names
    the variable, if nothing answers, another program does, or the server refuses the credentials.
    """
    deadline = time.monotonic() + patience_s
    while (problem := _problem(api)) is not None:
        busy, text = problem
        if not busy or time.monotonic() > deadline:
            raise ServerUnavailable(f"PREFECT_API_URL={without_password(api)}: expected a Prefect server, found {text}")
        time.sleep(0.5)


@contextmanager
def server_errors() -> Iterator[None]:
    """Turn the loss of the server during the block into a ServerUnavailable."""
    import httpx

    try:
        yield
    except (httpx.TransportError, httpx.HTTPStatusError, AssertionError) as error:
        if isinstance(error, AssertionError) and _GIVEN_UP not in str(error):
            raise
        api = without_password(os.environ.get("PREFECT_API_URL", ""))
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

    headers = custom_headers()
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


def _is_version(answer: "httpx.Response") -> bool:
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, str) and re.match(r"\d+\.\d+", found) is not None
