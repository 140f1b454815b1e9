"""Deployments of the profiles that ship with the package and of those that a person adds."""

from pathlib import Path

import pytest

from spinmeround.flows.profile import Profile
from spinmeround.flows.profile.parameter import as_profile
from spinmeround.flows.server.deployments import deployments
from spinmeround.storage.errors import ConfigError


def written(path: Path, text: str) -> Path:
    path.write_text(f'extends = "demo"\n{text}', encoding="utf-8")
    return path


def test_a_profile_of_ones_own(tmp_path: Path) -> None:
    """Its deployments have its name, its form its values, and some fields of a person leave the others as they are."""
    file = written(tmp_path / "mine.toml", "[mesh]\nresolution = 40\n")
    found = {each.name: each for each in deployments(tmp_path, [str(file)])}
    assert {"demo-mesh", "mine-mesh", "mine-workflow", "comparison"} <= found.keys()
    mesh = found["mine-mesh"]
    form = mesh._parameter_openapi_schema.properties["profile"]["properties"]
    assert (form["extends"]["default"], form["mesh"]["properties"]["resolution"]["default"]) == (str(file), 40)
    changed = as_profile({**mesh.parameters["profile"], "plan": {"heads": 3}})
    assert isinstance(changed, Profile)
    assert (changed.name, changed.plan.heads, changed.mesh.resolution) == ("mine", 3, 40)


def test_every_deployment_has_valid_parameters(tmp_path: Path) -> None:
    """What a deployment is registered with is what its flow takes."""
    for each in deployments(tmp_path):
        if each.name != "comparison":
            assert as_profile(each.parameters["profile"]).name == each.name.partition("-")[0]
    names = [each.full_name for each in deployments(tmp_path)]
    assert len(set(names)) == len(names)


def test_two_profiles_of_one_name(tmp_path: Path) -> None:
    """The second would replace the deployments of the first."""
    with pytest.raises(ConfigError, match="expected another name than 'demo', which demo has"):
        deployments(tmp_path, [str(written(tmp_path / "demo.toml", ""))])
