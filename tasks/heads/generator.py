"""The generator that a profile names, made once a process."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator
from spinmeround.storage.records import Identity


@lru_cache(maxsize=4)
def _generator(config_json: str) -> HeadGenerator:
    return make_generator(GeneratorConfig.model_validate_json(config_json))


def generator_of(sections: Mapping[str, Any]) -> HeadGenerator:
    """The generator of the profile's `generator` section."""
    return _generator(sections["generator"].model_dump_json())


def generator_fingerprint(sections: Mapping[str, Any]) -> str:
    """What stands for the generator's weights or code in a key."""
    return generator_of(sections).fingerprint


def generator_record(sections: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset says of its generator: name, the options that decide its heads, what they come from."""
    provenance = getattr(generator_of(sections), "provenance", None)
    return {**sections["generator"].key_values(), **({} if provenance is None else {"provenance": provenance})}


def load_identity(sample: Path) -> Identity:
    """The identity in a sample artifact."""
    with np.load(sample / "identity.npz", allow_pickle=False) as arrays:
        return Identity(seed=int(arrays["seed"]), latent=arrays["latent"])
