"""Text files are UTF-8 in any locale: every call that opens one says so. ruff's PLW1514 sees only part of them."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast
ROOT = Path(__file__).parents[1]
FOLDERS = ("flows", "tasks", "models", "panohead_bridge", "storage", "docs", "examples")


def without_encoding(source: str) -> list[int]:
    """Lines of `read_text` and `write_text`, of `open` in a text mode, and of processes whose output is decoded."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and _depends(node)]


def _depends(call: ast.Call) -> bool:
    given = {keyword.arg for keyword in call.keywords}
    if "encoding" in given:
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "read_text" or name == "write_text":
        return isinstance(call.func, ast.Attribute)
    if name == "open" and isinstance(call.func, ast.Name):
        return not _is_binary(call.args[1:2])
    if name == "open":  # of a path, if its argument is a mode
        modes = [each for each in call.args[:1] if isinstance(each, ast.Constant) and str(each.value) in MODES]
        return bool(modes) and not _is_binary(modes)
    return name in ("run", "Popen", "check_output") and bool(given & {"text", "universal_newlines"})


MODES = {f"{kind}{plus}{binary}" for kind in "rwax" for plus in ("", "+") for binary in ("", "b")}


def _is_binary(mode: list[ast.expr]) -> bool:
    return any(isinstance(each, ast.Constant) and "b" in str(each.value) for each in mode)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_text_file_has_an_encoding(folder: str) -> None:
    """No call depends on the locale."""
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in without_encoding(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "depends"),
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.open('a')", True),
        ("path.open('ab')", False),
        ("open(path)", True),
        ("open(path, 'rb')", False),
        ("store.open('train', key)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command)", False),
    ],
)
def test_the_test_can_fail(line: str, depends: bool) -> None:
    """It finds each of these calls."""
    assert bool(without_encoding(line)) is depends
