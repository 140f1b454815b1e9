"""Forms of deployments."""

from typing import Any

import jsonschema
import pytest

from spinmeround.flows.profile import load_profile
from spinmeround.flows.server.forms import limits, profile_form

pytestmark = pytest.mark.fast


def form(*fields: str) -> dict[str, Any]:
    return profile_form(load_profile("demo"), "demo", fields)


def test_a_form_has_the_fields_that_a_flow_reads() -> None:
    """Whole sections and single fields, and no others; defaults are those of the profile, not of the model."""
    found = form("mesh", "train.batch", "sample.previews.azimuths")["properties"]
    assert list(found) == ["name", "extends", "mesh", "train", "sample", "set"]
    assert list(found["train"]["properties"]) == ["batch"]
    assert list(found["sample"]["properties"]) == ["previews"]
    demo = load_profile("demo")
    assert found["mesh"]["properties"]["resolution"]["default"] == demo.mesh.resolution
    azimuths = found["sample"]["properties"]["previews"]["properties"]["azimuths"]
    assert azimuths["default"] == demo.sample.previews.azimuths != demo.views.azimuths
    assert "$ref" not in str(found)


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ({"name": "demo"}, True),
        ({"name": "demo", "mesh": {"resolution": 48}}, True),
        ({"name": "demo", "plan": {"heads": 3}}, True),  # a field that this form does not show
        ({"name": "demo", "set": ["plan.heads=3"]}, True),
        ({"mesh": {"resolution": 48}}, False),  # of no profile
        ({"name": "demo", "mesh": {"resolution": 2000}}, False),
        ({"name": "demo", "mesh": {"resolution": "many"}}, False),
        ({"name": "demo", "set": ["plan.heads"]}, False),
    ],
)
def test_the_server_refuses_what_is_out_of_range(value: dict[str, Any], valid: bool) -> None:
    """Prefect's server checks parameters against the schema before a run is created."""
    errors = list(jsonschema.Draft202012Validator(form("mesh")).iter_errors(value))
    assert (not errors) == valid


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, ""),
        ({"minimum": 0, "maximum": 1.0}, "From 0 to 1"),
        ({"minimum": 1}, "At least 1"),
        ({"exclusiveMinimum": 0.0, "maximum": 90.0}, "Above 0, at most 90"),
        ({"minimum": 0.0, "exclusiveMaximum": 0.5}, "At least 0, below 0.5"),
    ],
)
def test_limits_in_words(schema: dict[str, Any], text: str) -> None:
    """The UI does not show limits, so they are in the text of a field."""
    assert limits(schema) == text
