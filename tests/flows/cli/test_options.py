"""What the options that all commands share make of a profile."""

from spinmeround.flows.cli.options import RunOptions


def test_trust_reaches_the_generator_and_the_next_command():
    """`--trust` is the generator's option of that name, and a suggested command repeats it; unsaid, neither has it."""
    said, unsaid = RunOptions(profile="panohead", trust=True), RunOptions(profile="panohead")
    assert said.load()[0].generator.options["trust"] is True
    assert said.command("review") == "spinmeround review --profile panohead --trust"
    assert "trust" not in unsaid.load()[0].generator.options
    assert unsaid.command("review") == "spinmeround review --profile panohead"
