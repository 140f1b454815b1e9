"""`spinmeround train`: the phase that it ends with, what that begins with, and its steps."""

from pathlib import Path
from typing import Any

import pytest

from spinmeround.flows.cli.pipeline import phase_overrides
from spinmeround.flows.cli.shared.options import LaunchOptions, RunOptions
from spinmeround.flows.profile import Profile, load_profile
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.training.params.launch import LaunchParams
from spinmeround.tasks.training.params.phases import field_of

STEPS = {"adapt": 10, "single-view": 30, "multi-view": 120}
GIVEN = ("train.initial.unet=random", *(f"train.{field_of(name)}.steps={steps}" for name, steps in STEPS.items()))
"""A profile with all phases."""


def _profile(name: Any, begins: Path | None, steps: int | None, given: tuple[str, ...] = GIVEN) -> Profile:
    options = RunOptions(overrides=list(given))
    return load_profile("demo", [*given, *phase_overrides(options, name, begins, steps)])


@pytest.mark.parametrize(
    ("name", "begins", "steps", "expected"),
    [
        (None, False, None, STEPS),
        ("single-view", False, None, {"adapt": 10, "single-view": 30}),
        ("adapt", False, 5, {"adapt": 5}),
        (None, False, 200, {**STEPS, "multi-view": 200}),
        (None, True, None, {"multi-view": 120}),
        ("adapt", True, None, {"adapt": 10}),
        (None, True, 7, {"multi-view": 7}),
        (None, True, 0, {}),
    ],
    ids=["all", "up to one", "fewer", "more", "from", "one from", "from, steps", "export"],
)
def test_the_phases_that_are_trained(
    name: Any, begins: bool, steps: int | None, expected: dict[str, int], tmp_path: Path
) -> None:
    """A phase is trained after those before it; with a folder to begin with, alone."""
    train = _profile(name, tmp_path if begins else None, steps).train
    assert {each: train.only(each).steps for each in train.trained} == expected
    assert train.initial.unet == (str(tmp_path) if begins else "random")


def test_the_last_phase_is_that_of_the_profile(tmp_path: Path) -> None:
    """Of a profile that ends with an earlier phase, `--from` begins that one."""
    given = (*GIVEN, "train.multi_view.steps=0")
    assert _profile(None, tmp_path, None, given).train.trained == ["single-view"]


def test_the_processes_are_those_of_the_options() -> None:
    """`--launch`, `--nproc`, `--machines` and `--rendezvous` are overrides, which come after those of the profile."""
    given = RunOptions(overrides=["train.launch.processes=4"])
    launch = LaunchOptions(launch="torchrun", nproc=8, machines=2, rendezvous="first:29500")
    found = load_profile("demo", launch.applied(given).overrides or []).train.launch
    assert found == LaunchParams(launcher="torchrun", processes=8, machines=2, rendezvous="first:29500")
    assert LaunchOptions().applied(given) == given


def test_contradictory_options_are_named(tmp_path: Path) -> None:
    """Nothing to export, a folder that does not exist, a phase without steps: the error has the option or the field."""
    with pytest.raises(ConfigError, match="--steps 0: expected --from"):
        _profile(None, None, 0)
    with pytest.raises(ConfigError, match=r"--from .*nowhere: expected a folder, found none"):
        _profile(None, tmp_path / "nowhere", None)
    with pytest.raises(ConfigError, match=r"train\.adapt\.steps: expected steps of adapt, got 0; give --steps"):
        _profile("adapt", None, None, ("train.adapt.steps=0",))
