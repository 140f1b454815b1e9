"""Commands in the environments of `tests/cases`, each with a server of its own."""

import os
from pathlib import Path

import pytest

from tests.e2e.runs import spinmeround, summary

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", ["proxy", "socks"])
def test_a_proxy_is_no_concern_of_the_own_server(case, profile_file, tmp_path):
    """A stage is made although every proxy is dead or cannot be used; the command's server and workers need none."""
    lines = (ROOT / "tests" / "cases" / case / "environment").read_text(encoding="utf-8").split()
    outer = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = outer | {"PYTHONPATH": str(ROOT)} | dict(line.split("=", 1) for line in lines)
    for name in ("no_proxy", "NO_PROXY"):
        environment.pop(name, None)
    command = ["stage", "sample", "--profile", str(profile_file), "--runs", str(tmp_path), "--set", "plan.heads=1"]
    process = spinmeround(*command, environment=environment)
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, output + errors
    assert summary(tmp_path / "tiny")["stages"]["sample"]["made"] == 1
