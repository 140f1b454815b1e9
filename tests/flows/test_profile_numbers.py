"""No field of a profile takes NaN or infinity."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from spinmeround.flows.profile import Profile, load_profile


def places(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of the float fields of a model and of the models in it."""
    for name, value in model:
        if isinstance(value, BaseModel):
            yield from places(value, (*path, name))
        elif isinstance(value, float) or "float" in str(type(model).model_fields[name].annotation):
            yield (*path, name)


PLACES = sorted({path for name in ("demo", "panohead") for path in places(load_profile(name))})


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    return {path[0]: nested(path[1:], value) if len(path) > 1 else value}


def merged(into: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    result = dict(into)
    for name, value in change.items():
        result[name] = merged(result[name], value) if isinstance(value, dict) and name in result else value
    return result


@pytest.mark.parametrize("path", PLACES, ids=".".join)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(path: tuple[str, ...], value: float) -> None:
    """Whatever the field's own limits are; the error names the field."""
    whole = load_profile("demo").model_dump()
    current: Any = whole
    for name in path:
        current = current.get(name) if isinstance(current, dict) else None
    given: Any = value
    if isinstance(current, tuple | list):
        given = [value] * max(1, len(current))
    elif isinstance(current, dict):
        given = dict.fromkeys(current or ["x"], value)
    with pytest.raises(ValidationError) as error:
        Profile.model_validate(merged(whole, nested(path, given)))
    assert any(problem["loc"][: len(path)] == path for problem in error.value.errors(include_url=False))


def test_the_fields_are_found() -> None:
    """The list has the fields in sections of sections."""
    assert {("mesh", "level"), ("train", "learning_rate"), ("train", "noise", "mean")} <= set(PLACES)
    assert len(PLACES) > 40
