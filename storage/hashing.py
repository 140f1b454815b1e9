"""Content hashes: canonical JSON and SHA-256, the same in every process and on every machine."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spinmeround.storage.errors import StoreError


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces. Raises StoreError for values that are not JSON (NaN, sets, objects)."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"expected JSON values (numbers, strings, lists, maps), got {error}") from error


def sha256_json(value: Any) -> str:
    """Hexadecimal SHA-256 of the value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_listing(checksums: Mapping[str, str]) -> str:
    """One digest of many files: SHA-256 of the canonical list of (name, SHA-256), sorted by name."""
    return sha256_json(sorted(checksums.items()))
