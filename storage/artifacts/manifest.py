"""The manifest of an artifact, `manifest.json`.

Version 2 added `machine` and `payload`, version 3 `flow_run`; manifests of earlier versions remain readable. The file
is sealed (`storage.sealed`).
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, JsonValue

from spinmeround.storage.artifacts.key import artifact_key
from spinmeround.storage.errors import StoreError
from spinmeround.storage.hashing import canonical_json
from spinmeround.storage.manifests import FileRecord, RelativeName, Sha256, stated_version
from spinmeround.storage.records import FrozenModel
from spinmeround.storage.sealed import sealed_json, unsealed

MANIFEST = "manifest.json"
SCHEMA_VERSION = 3
MAX_MANIFEST_BYTES = 1024 * 1024 * 1024
"""Of readers and writers alike: the inputs of a dataset of two million heads."""


def plain_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping after a round trip through JSON: tuples become lists."""
    return dict(json.loads(canonical_json(dict(value))))


class Manifest(FrozenModel):
    """What an artifact is, what it was made from, and its files with sizes and checksums.

    The files are in the folder `payload` next to the manifest, or next to the manifest itself if `payload` is empty.
    `machine` is the class of machine that made the artifact, empty if an older version of the software did; `flow_run`
    the id of the flow run that made it, empty outside of one.
    """

    schema_version: Literal[1, 2, 3] = 3
    stage: str
    key: Sha256
    version: int
    params: dict[str, JsonValue]
    inputs: dict[str, str]
    weights: str
    subject: str
    files: dict[RelativeName, FileRecord] = Field(min_length=1)
    code_version: str
    duration_s: float = Field(ge=0)
    created: str
    machine: str = ""
    flow_run: str = ""
    payload: str = Field(default="", pattern=r"^([0-9a-f]{16})?$")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())


def manifest_bytes(manifest: Manifest) -> bytes:
    """The content of `manifest.json`. Raises StoreError if it is larger than readers accept."""
    data = sealed_json(manifest)
    if len(data) > MAX_MANIFEST_BYTES:
        raise StoreError(
            f"artifact {manifest.stage}/{manifest.key[:12]}: {MANIFEST}: expected at most {MAX_MANIFEST_BYTES} bytes, "
            f"got {len(data)}; use fewer heads"
        )
    return data


def parse_manifest(data: bytes, stage: str, key: str) -> Manifest:
    """Parse the manifest of an artifact.

    Raises ValueError if it is broken or belongs to another artifact, StoreError if its version is too new.
    """
    try:
        manifest = Manifest.model_validate(unsealed(data))
    except ValueError:
        if (newest := stated_version(data)) > SCHEMA_VERSION:
            raise StoreError(
                f"artifact {stage}/{key[:12]}: its manifest has schema version {newest}, this software reads up to "
                f"{SCHEMA_VERSION}; use a newer version of the software"
            ) from None
        raise
    if MANIFEST in manifest.files:
        raise ValueError(f"{MANIFEST} lists itself as a file of the payload")
    try:
        rebuilt = artifact_key(manifest.stage, manifest.version, manifest.params, manifest.inputs, manifest.weights)
    except StoreError as error:
        raise ValueError(f"{MANIFEST}: {error}") from error
    if (manifest.stage, manifest.key) != (stage, key) or rebuilt != key:
        raise ValueError(f"{MANIFEST} describes another artifact, {manifest.stage}/{manifest.key[:12]}")
    return manifest
