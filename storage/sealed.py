"""Small JSON files that state the SHA-256 of their own content, so that no flipped bit in them is read in silence.

The field `checksum` is over the canonical JSON of all others. Files of earlier versions have none and remain readable.
"""

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from spinmeround.storage.errors import StoreError
from spinmeround.storage.hashing import sha256_json

CHECKSUM = "checksum"


def sealed_json(content: BaseModel) -> bytes:
    """The JSON of a record with its checksum."""
    found = content.model_dump(mode="json")
    return json.dumps({**found, CHECKSUM: sha256_json(found)}, indent=1, allow_nan=False).encode()


def unsealed(data: bytes) -> Any:
    """The content of a file without its checksum.

    Raises ValueError if the file is not JSON, or its content does not match its checksum.
    """
    found = from_json(data)
    if not isinstance(found, dict) or CHECKSUM not in found:
        return found
    stated = found.pop(CHECKSUM)
    try:
        matches = stated == sha256_json(found)
    except StoreError:  # numbers that are not finite, which no sealed file has
        matches = False
    if not matches:
        raise ValueError("its content does not match its checksum")
    return found
