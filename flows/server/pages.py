"""Reports and pictures of the runs, served beside Prefect's UI under `/files`.

Only what people look at is served, never the store, the database or a checkpoint. Where the server has a password, so
have the files.
"""

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from spinmeround.flows.run.outcome import PAGES_PATH

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.types import Scope

SUFFIXES = frozenset({".html", ".png", ".webp", ".webm", ".gif", ".ply"})
_HIDDEN = frozenset({"store", "training", "datasets", "summaries"})
"""Folders of a run that hold no pages."""


class RunFiles(StaticFiles):
    """Files of a folder of runs that people look at; all others are not found."""

    async def get_response(self, path: str, scope: "Scope") -> "Response":
        """The file, or 401 without the server's password."""
        if not _signed_in(scope):
            return PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": 'Basic realm="SpinMeRound"'})
        parts = Path(path).parts
        if any(part.startswith(".") or part in _HIDDEN for part in parts) or Path(path).suffix not in SUFFIXES:
            raise HTTPException(404)
        return await super().get_response(path, scope)


def add_pages(app: "Starlette", runs: Path) -> None:
    """Serve the files of the runs before the routes of an application, the last of which takes every path."""
    app.router.routes.insert(0, Mount(PAGES_PATH, RunFiles(directory=runs, check_dir=False), name="files"))


def _signed_in(scope: "Scope") -> bool:
    """Whether the request has the server's password, if its settings have one: Prefect checks its API alone."""
    from prefect.settings import get_current_settings

    password = get_current_settings().server.api.auth_string
    if password is None:
        return True
    expected = b"Basic " + base64.b64encode(password.get_secret_value().encode())
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return secrets.compare_digest(given, expected)
