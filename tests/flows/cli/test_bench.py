"""Benchmarks are found by name, take their own options, and record the machine with their tables."""

import json

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli import bench
from spinmeround.flows.cli.app import app
from spinmeround.storage.errors import ConfigError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A clone with one benchmark, which measures nothing."""
    (tmp_path / "nothing.py").write_text('"""Measures nothing."""')
    (tmp_path / "_parts.py").touch()
    (tmp_path / "test_nothing.py").touch()
    monkeypatch.setattr(bench, "BENCHMARKS", tmp_path)
    monkeypatch.setattr(bench, "_main_of", lambda name: nothing)
    return tmp_path


def nothing(heads: int = 3):
    return {"table": [{"heads": heads, "ratio": 1 / 3}]}


def test_every_benchmark_says_what_it_measures():
    assert {"geometry", "parallel", "sampling", "scale", "screening", "storage"} <= set(bench.benchmarks())
    assert all(bench.benchmarks().values())


def test_options_of_a_benchmark_and_its_file(folder, tmp_path):
    """Options after the name are the benchmark's own; the file contains tables, arguments and the machine."""
    to = tmp_path / "out.json"
    found = CliRunner().invoke(app, ["bench", "--json", str(to), "nothing", "--heads", "5"])
    assert found.exit_code == 0, found.output
    assert "0.3333" in found.output
    result = json.loads(to.read_text())
    assert result["tables"] == {"table": [{"heads": 5, "ratio": 1 / 3}]}
    assert result["arguments"] == ["--heads", "5"]
    assert result["machine"]["cores"] >= 1


def test_without_a_name_all_are_listed(folder):
    """Modules of tests and parts are no benchmarks."""
    assert CliRunner().invoke(app, ["bench"]).output == "nothing Measures nothing.\n"


def test_unknown_name_is_refused(folder):
    with pytest.raises(ConfigError, match="bench 'speed': expected one of nothing"):
        bench.run_benchmark("speed", [], None)
