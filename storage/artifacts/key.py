"""The key of an artifact: a hash of everything that decides its content."""

from collections.abc import Mapping
from typing import Any

from spinmeround.storage.hashing import sha256_json


def artifact_key(
    stage: str, version: int, params: Mapping[str, Any], inputs: Mapping[str, str], weights: str = ""
) -> str:
    """The address of an artifact: SHA-256 of everything that decides its content.

    `params` are the parameters that the stage reads (JSON values), `inputs` the keys of its input artifacts
    by role, `weights` the fingerprint of the weights that it uses. The order in the mappings does not matter.
    """
    return sha256_json(
        {"stage": stage, "version": version, "params": dict(params), "inputs": dict(inputs), "weights": weights}
    )
