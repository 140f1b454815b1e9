"""Generators by name: `procedural`, or anyone's `package.module:factory`.

A factory is called with the options as keyword arguments and returns a `HeadGenerator`. It may have an attribute
`place_options`, the names of those options that say where things are or how fast they go, and change no head.
"""

import importlib
import inspect
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from pydantic import Field

from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.storage.records import FrozenModel


class GeneratorConfig(FrozenModel):
    """Which generator invents the heads, and its options."""

    name: str = Field(default="procedural", description="'procedural', or 'package.module:factory'")
    options: dict[str, Any] = Field(default_factory=dict, description="Options that the generator takes")

    def key_values(self) -> dict[str, Any]:
        """What of this enters the keys of artifacts: all but the options that change no head.

        What those point to is in the generator's fingerprint, so a checkout or a checkpoint may be moved.
        """
        places: AbstractSet[str] = frozenset()
        if self.name not in _BUILT_IN:
            with suppress(ValueError):  # not on this machine, where nothing is made of it either
                places = getattr(_imported(self.name), "place_options", places)
        values = self.model_dump(mode="json")
        return {**values, "options": {name: value for name, value in values["options"].items() if name not in places}}


def make_generator(config: GeneratorConfig) -> HeadGenerator:
    """The generator that `config` names.

    Raises:
        ValueError: the name is unknown, can't be imported, or makes something that is no HeadGenerator;
            or the options are refused (pydantic's ValidationError is a ValueError).
    """
    factory = _BUILT_IN.get(config.name) or _imported(config.name)
    _check_options(config, factory)
    generator = factory(**config.options)
    if not isinstance(generator, HeadGenerator):
        raise ValueError(
            f"generator.name: {config.name!r} made a {type(generator).__name__}, which lacks part of "
            "HeadGenerator; see panohead_bridge.protocol"
        )
    return generator


def _check_options(config: GeneratorConfig, factory: Callable[..., object]) -> None:
    """Raises ValueError that names the option that the factory does not take, or lacks."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some builtins have none
        return
    try:
        signature.bind(**config.options)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "none"
        raise ValueError(f"generator.options: {config.name!r}: {error}; it takes {takes}") from error


def _procedural(**options: Any) -> ProceduralGenerator:
    return ProceduralGenerator(ProceduralOptions(**options))


_BUILT_IN: dict[str, Callable[..., HeadGenerator]] = {"procedural": _procedural}


def _imported(name: str) -> Any:
    module, colon, factory = name.partition(":")
    if not colon:
        raise ValueError(f"generator.name: expected 'procedural' or 'package.module:factory', got {name!r}")
    try:
        return getattr(importlib.import_module(module), factory)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"generator.name: {name!r} can't be imported ({error}); check the spelling") from error
