from pathlib import Path

import pytest
from pydantic import ValidationError

from spinmeround.panohead_bridge.procedural import ProceduralGenerator
from spinmeround.panohead_bridge.protocol import HeadGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig, make_generator

pytestmark = pytest.mark.fast


def test_default_is_the_procedural_generator():
    """An empty configuration makes a complete HeadGenerator."""
    generator = make_generator(GeneratorConfig())
    assert isinstance(generator, HeadGenerator)
    assert (generator.name, generator.box_warp) == ("procedural", 1.0)


def test_custom_factory_receives_the_options():
    """`package.module:factory` is imported and called with the options."""
    config = GeneratorConfig(name="spinmeround.panohead_bridge.procedural:make", options={"truncation": 0.5})
    generator = make_generator(config)
    assert isinstance(generator, ProceduralGenerator)
    assert generator.options.truncation == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("panohaed", "expected 'procedural', 'panohead', 'spherehead' or 'package.module:factory', got 'panohaed'"),
        ("no_such_package:make", "can't be imported"),
        ("spinmeround.panohead_bridge.registry:nothing", "can't be imported"),
        ("builtins:dict", "lacks part of HeadGenerator"),
    ],
    ids=["unknown", "no module", "no attribute", "no generator"],
)
def test_invalid_names_are_quoted(name: str, message: str):
    """A name without a generator is a ValueError that explains why."""
    with pytest.raises(ValueError, match=message):
        make_generator(GeneratorConfig(name=name))


@pytest.mark.parametrize(
    "options",
    [
        {"defect_shares": 0.1},
        {"defect_share": 1.5},
        {"truncation": -1.0},
        {"defect_kinds": ["wigs"]},
        {"defect_kinds": []},
        {"defect_strengths": [0.9, 0.2]},
    ],
)
def test_invalid_options_are_refused(options: dict):
    """Unknown option names and values out of range are refused by name."""
    with pytest.raises(ValidationError, match=next(iter(options))):
        make_generator(GeneratorConfig(options=options))


def strict_factory(*, side: int) -> object:
    """A factory with a single option."""
    raise AssertionError(side)


@pytest.mark.parametrize(
    ("options", "named"), [({"side": 1, "sied": 1}, "'sied'"), ({}, "'side'")], ids=["unknown", "missing"]
)
def test_options_that_a_factory_does_not_take_are_named(options: dict, named: str):
    """An unknown or missing option is a ValueError that names it, not a TypeError of the call."""
    with pytest.raises(ValueError, match=rf"generator\.options: .*{named}.*; it takes side"):
        make_generator(GeneratorConfig(name=f"{__name__}:strict_factory", options=options))


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], {"a": {"b": float("-inf")}}], ids=repr)
def test_options_are_finite_at_any_depth(value: object):
    """They enter keys and files; values that JSON does not know are left to the factory."""
    with pytest.raises(ValidationError, match="options"):
        GeneratorConfig(options={"psi": value})
    GeneratorConfig(options={"psi": [0.5], "place": Path("a")})


def test_fingerprint_covers_options():
    """Options that change heads change the fingerprint; the same options keep it."""
    prints = [
        make_generator(GeneratorConfig(options=o)).fingerprint for o in ({}, {"defect_share": 0.3}, {"truncation": 0.7})
    ]
    assert prints[0] == prints[1] != prints[2]


def test_runtime_options_stay_out_of_keys():
    """Keys omit the options that a factory declares as runtime options; other or unavailable generators keep all."""
    options = {"checkout": "a", "threads": 2, "truncation_psi": 0.5}
    config = GeneratorConfig(name="panohead", options=options)
    assert config.key_values() == {"name": config.name, "options": {"truncation_psi": 0.5}}
    for name in ("procedural", "no.such.module:make"):
        assert GeneratorConfig(name=name, options=options).key_values() == {"name": name, "options": options}
