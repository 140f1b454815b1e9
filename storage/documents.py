"""Small files that people write or edit: UTF-8 with or without a byte order mark, in any locale.

Only ConfigError comes out, in one line that names the file, what was expected and what was found.
"""

import codecs
import json
from pathlib import Path
from typing import Any

from spinmeround.storage.errors import ConfigError, one_line

LARGEST_BYTES = 64 * 1024 * 1024
"""Size limit of a document."""


def read_bytes(path: Path, expected: str, *, largest: int = LARGEST_BYTES) -> bytes:
    """The content of a file. Raises ConfigError if it cannot be read or exceeds `largest` bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or one_line(error, 120)
        raise ConfigError(f"{path}: expected {expected}, found none that can be read ({reason})") from error
    if len(data) > largest:
        raise ConfigError(f"{path}: expected {expected}, found a file of more than {largest:,} bytes")
    return data


def read_text(path: Path, expected: str) -> str:
    """The text of a file without its byte order mark. Raises ConfigError, also for another encoding than UTF-8."""
    data = without_mark(read_bytes(path, expected))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        kind = "UTF-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "another encoding"
        raise ConfigError(f"{path}: expected {expected} in UTF-8, found {kind}; save it as UTF-8") from error


def read_json_object(path: Path, expected: str) -> dict[str, Any]:
    """The object in a JSON file. Raises ConfigError for anything else."""
    text = read_text(path, expected)
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: expected {expected}, found JSON that is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{path}: expected {expected}, found no valid JSON ({one_line(error, 120)})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected {expected}, a JSON object, found a {type(found).__name__}")
    return found


def without_mark(data: bytes) -> bytes:
    """The bytes of a UTF-8 text without its byte order mark."""
    return data.removeprefix(codecs.BOM_UTF8)
