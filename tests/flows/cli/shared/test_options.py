"""Shared options: how they change a profile, and how groups of them become the options of a command."""

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from spinmeround.flows.cli.shared.options import RunOptions, run_command


def test_trust_reaches_the_generator_and_the_next_command():
    """`--trust` sets the generator's option, and a suggested command repeats it; both are absent by default."""
    given, default = RunOptions(profile="panohead", trust=True), RunOptions(profile="panohead")
    assert given.load()[0].generator.options["trust"] is True
    assert given.command("review") == "spinmeround review --profile panohead --trust"
    assert "trust" not in default.load()[0].generator.options
    assert default.command("review") == "spinmeround review --profile panohead"


def test_overrides_are_loaded_and_repeated():
    """`--set`, `--workers` and `--shard-size` change the profile; a suggested command repeats overrides and places."""
    options = RunOptions(overrides=["plan.heads=3", "execution.retries=2"], workers=5, shard_size=7, store="s3://a/b")
    profile, place = options.load()
    assert (profile.plan.heads, profile.execution.retries) == (3, 2)
    assert (profile.execution.workers, profile.execution.shard_size) == (5, 7)
    assert place.store == "s3://a/b"
    repeated = "--set plan.heads=3 --set execution.retries=2 --store s3://a/b"
    assert options.command("store repair") == f"spinmeround store repair --profile demo {repeated}"


@dataclass(frozen=True, kw_only=True)
class Colour:
    """A group of options."""

    red: Annotated[int, typer.Option(min=0, help="Amount of red.")] = 1
    name: str = "none"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Another group of options."""

    width: int = 2


def test_groups_become_options():
    """Each field of each group is an option with its default; the command gets the groups and its own parameters."""
    app, calls = typer.Typer(), []

    @run_command(app)
    def paint(what: str, size: Size, colour: Colour, times: int = 1) -> None:
        calls.append((what, colour, size, times))

    runner = CliRunner()
    assert runner.invoke(app, ["wall"]).exit_code == 0
    assert runner.invoke(app, ["door", "--red", "7", "--width", "3", "--times", "2", "--name", "x"]).exit_code == 0
    assert calls == [("wall", Colour(), Size(), 1), ("door", Colour(red=7, name="x"), Size(width=3), 2)]
    refused = runner.invoke(app, ["wall", "--red", "-1"])
    assert refused.exit_code == 2
    assert "--red" in refused.output
    paint("roof", Size(), Colour())
    assert calls[-1] == ("roof", Colour(), Size(), 1)
