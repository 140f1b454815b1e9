"""The generator that a profile names, created once per process."""

from functools import lru_cache
from typing import Any

from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator


@lru_cache(maxsize=4)
def _generator(config_json: str) -> HeadGenerator:
    return make_generator(GeneratorConfig.model_validate_json(config_json))


def generator_of(config: GeneratorConfig) -> HeadGenerator:
    """The generator of the profile's section `generator`; raises as `make_generator`."""
    return _generator(config.model_dump_json())


def generator_on_gpu(config: GeneratorConfig) -> bool:
    """Whether the generator says, with an attribute `uses_gpu`, that it computes on a GPU where there is one."""
    return bool(getattr(generator_of(config), "uses_gpu", False))


def generator_record(config: GeneratorConfig) -> dict[str, Any]:
    """The generator as the dataset's attributes record it: name, options that change heads, provenance if known."""
    provenance = getattr(generator_of(config), "provenance", None)
    return {**config.key_values(), **({} if provenance is None else {"provenance": provenance})}
