"""Reports and pictures of the runs, served beside Prefect's UI under `/files`.

Only what people look at is served, never the store, the database or a checkpoint. Where the server has a password, so
have the files.
"""

import base64
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.types import Scope

PATH = "/files"
SUFFIXES = frozenset({".html", ".png", ".webp", ".webm", ".gif", ".ply", ".css", ".js", ".json"})
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
    app.router.routes.insert(0, Mount(PATH, RunFiles(directory=runs, check_dir=False), name="files"))


def _signed_in(scope: "Scope") -> bool:
    """Whether the request has the server's password, if it has one: Prefect checks its API alone."""
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if not password:
        return True
    expected = b"Basic " + base64.b64encode(password.encode())
    given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return secrets.compare_digest(given, expected)
