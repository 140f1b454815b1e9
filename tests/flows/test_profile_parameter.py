"""The parameter of flows that is a profile."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from spinmeround.flows.profile import Profile, ProfileParameter, load_profile
from spinmeround.storage.errors import ConfigError

pytestmark = pytest.mark.fast
ADAPTER: TypeAdapter[Profile] = TypeAdapter(ProfileParameter)


def given(value: Any) -> Profile:
    return ADAPTER.validate_python(value)


def test_some_fields_of_a_shipped_profile() -> None:
    """Fields beside a given one are those of the profile, in nested tables, too."""
    value = {"name": "demo", "plan": {"heads": 3}, "sample": {"previews": {"azimuths": 8}}}
    assert given(value) == load_profile("demo", ["plan.heads=3", "sample.previews.azimuths=8"])
    assert given({"name": "demo"}) == given("demo") == load_profile("demo")
    assert value == {"name": "demo", "plan": {"heads": 3}, "sample": {"previews": {"azimuths": 8}}}
    assert given({"name": "demo", "plan": {}, "mesh": {}}) == load_profile("demo")


def test_overrides_come_last() -> None:
    """`set` takes what the command line takes, and changes a given field, too."""
    value = {"name": "demo", "plan": {"heads": 3}, "set": ["plan.heads=4", "mesh.level=9.5"]}
    assert given(value) == load_profile("demo", ["plan.heads=4", "mesh.level=9.5"])


def test_all_fields_of_a_profile(tmp_path: Path) -> None:
    """A profile as it is or as values is itself, also under a name that no file has."""
    profile = load_profile("demo", ["name=mine", "mesh.level=9.5"])
    assert given(profile) is profile
    assert given(profile.model_dump(mode="json")) == profile


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    """`extends` names the file, whose own fields and base count; another name makes another run of it."""
    path = tmp_path / "mine.toml"
    path.write_text('extends = "demo"\n[mesh]\nlevel = 8.0\n')
    changed = given({"extends": str(path), "name": "other", "plan": {"heads": 3}})
    assert (changed.name, changed.mesh.level, changed.plan.heads) == ("other", 8.0, 3)
    assert changed.views == load_profile("demo").views
    assert given({"extends": str(path)}).name == "mine"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "mine", "plan": {"heads": 3}}, "'extends' or 'name'.*generator is missing"),
        ({"name": "demo", "plan": {"heads": 0}}, "plan.heads"),
        ({"name": "demo", "plan": {"head": 3}}, "did you mean plan.heads"),
        ({"name": "demo", "set": ["plan.heads"]}, "expected section.field=value"),
        ({"name": "demo", "set": "plan.heads=3"}, "set: expected a list of texts"),
        ({"name": "demo", "set": [3]}, "set: expected a list of texts"),
        ("nowhere", "expected one of demo"),
        (7, "expected a name or the fields of a profile, got int"),
    ],
)
def test_other_values(value: Any, message: str) -> None:
    """The error names the field, as one in a file does."""
    with pytest.raises(ValueError, match=message) as caught:
        given(value)
    assert isinstance(caught.value.errors()[0]["ctx"]["error"], ConfigError)  # type: ignore[attr-defined]
