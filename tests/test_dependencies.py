"""Every library that the package imports is a requirement of its own, of the base install or of an extra."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("flows", "tasks", "models", "panohead_bridge", "storage", "spinmeround")
NOT_ON_A_REGISTRY = {"pytorch3d"}
IN_A_CHECKOUT = {"legacy", "torch_utils", "training", "distutils"}
"""Modules of PanoHead's checkout, imported in its own process only."""

pytestmark = pytest.mark.fast


def normalised(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(source: str) -> set[str]:
    """Top-level names that a module imports, in functions too."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def declared() -> set[str]:
    """Distributions that the base install and the extras for users require."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(
            line
            for name in ("build", "train", "s3", "exchange", "eight-bit", "matting", "dask")
            for line in extras[name]
        ),
    ]
    return {normalised(re.split(r"[<>=\[;~! ]", line)[0]) for line in lines}


def undeclared(names: set[str]) -> set[str]:
    """Those of some modules that no declared distribution provides."""
    found = packages_distributions()
    return {name for name in names if not {normalised(each) for each in found.get(name, [name])} & declared()}


def test_imported_libraries_are_declared() -> None:
    """A library that is only a dependency of a dependency may vanish with an update of that."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).glob("**/*.py")]
    names = set.union(*(imported(file.read_text(encoding="utf-8")) for file in files))
    assert undeclared(names - {"spinmeround"} - NOT_ON_A_REGISTRY - IN_A_CHECKOUT) == set()


def test_an_undeclared_library_is_found() -> None:
    """The check can fail: pytest is installed and no requirement for users."""
    assert undeclared(imported("def f():\n    import pytest.x\n    from numpy import a")) == {"pytest"}
