"""The command line as a whole: its imports, its help, and how it reports errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import spinmeround
from spinmeround.flows.cli.app import Commands, app
from spinmeround.storage.dataset import publish
from spinmeround.storage.errors import ConfigError
from tests.support.heads import write_heads

NETWORK_LIBRARIES = {"torch", "torchvision", "diffusers", "transformers", "scipy", "insightface", "onnxruntime"}
HEAVY = NETWORK_LIBRARIES | {"prefect", "skimage", "trimesh", "matplotlib", "sklearn"}

_SCRIPT = """
import json, sys
from spinmeround.flows.cli.app import app
try:
    app(json.loads(sys.argv[1]))
except SystemExit as end:
    print("status", end.code, file=sys.stderr)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def imported_by(arguments: list[str], folder: Path) -> set[str]:
    """Top-level modules that a command imports, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(arguments)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=True,
    )
    status, modules = done.stderr.splitlines()[-2:]
    assert status == "status 0", done.stderr
    return set(json.loads(modules))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of two heads, and an empty store."""
    root = tmp_path_factory.mktemp("place")
    (root / "dataset").symlink_to(publish(root / "datasets", write_heads(root / "heads", range(2)), {}).path)
    (root / "store").mkdir()
    return root


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["generate", "photo", "--help"],
        ["plan", "demo"],
        ["store", "du", "--store", "store"],
        ["store", "verify", "--store", "store"],
        ["models", "list", "--store", "store"],
        ["dataset", "info", "dataset"],
        ["dataset", "versions", "dataset"],
        ["weights", "list"],
    ],
    ids=" ".join,
)
def test_commands_that_only_read_import_no_heavy_library(arguments: list[str], place: Path) -> None:
    """Help, plans, stores and datasets need no network library, no renderer and no Prefect."""
    assert imported_by(arguments, place) & HEAVY == set()


def test_the_import_check_can_fail(place: Path) -> None:
    """A command that draws heads imports a library of the list."""
    heads = ["heads", "--seeds", "0:1", "--resolution", "16", "--to", str(place / "heads.png")]
    assert imported_by(heads, place) & HEAVY


def test_the_version_is_printed_without_a_command() -> None:
    """`spinmeround --version` prints the version of the package."""
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.output) == (0, f"spinmeround {spinmeround.__version__}\n")


def test_every_command_has_help() -> None:
    """Help exists for each command, starts with a capital letter and ends with a full stop."""
    commands = typer.main.get_command(app)
    found = dict(_commands("", commands))
    assert {"demo", "plan", "generate photo", "heads", "store why", "dataset verify", "weights fetch"} <= set(found)
    for name, text in found.items():
        first = (text or "").split("\n\n")[0].strip()
        assert first[:1].isupper(), name
        assert first.endswith("."), name


def _commands(prefix, group):
    for name, command in group.commands.items():
        yield f"{prefix}{name}", command.help
        if hasattr(command, "commands"):
            yield from _commands(f"{name} ", command)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ConfigError("mesh.level: expected a number"), 2, "error: mesh.level: expected a number"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, 'pip install "spinmeround[train]"'),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume"),
    ],
    ids=["user", "extra", "interrupted"],
)
def test_errors_print_one_line(error: BaseException, status: int, message: str) -> None:
    """A user error, a missing extra and an interruption print one line, with the exit status of each."""
    result = CliRunner().invoke(_raising(error), ["fail"])
    assert result.exit_code == status
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


LONG = "a" * 300


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["generate", "identity", f"{LONG}.npy"], "argument: "),
        (["dataset", "verify", LONG], "argument: "),
        (["store", "verify", f"--store={LONG}"], "--store: "),
        (["plan", "--out", LONG], "--out: "),
        (["plan", "--set", f"embed.pack={LONG}"], "embed.pack: "),
    ],
    ids=["identity", "dataset", "store", "out", "pack"],
)
def test_a_name_that_is_too_long_is_a_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], named: str
) -> None:
    """One line that names the argument, the option or the field."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith(f"error: {named}cannot use ")
    assert "the name is too long: choose a shorter one" in result.stderr


def test_weights_check_reports_a_long_name_among_the_parts() -> None:
    """The other parts are checked, too."""
    result = CliRunner().invoke(app, ["weights", "check", "demo", "--set", f"encode.autoencoder={LONG}"])
    assert result.exit_code == 1
    assert "encode.autoencoder: cannot use aaa" in result.output
    assert "shipped" in result.output


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'spinmeround.x'", name="spinmeround.x"), RuntimeError("a bug")]
)
def test_bugs_keep_their_traceback(error: Exception) -> None:
    """An error that no user can fix is not caught."""
    result = CliRunner().invoke(_raising(error), ["fail"])
    assert result.exception is error


def _raising(error: BaseException) -> typer.Typer:
    failing = typer.Typer(cls=Commands)

    @failing.command()
    def fail() -> None:
        raise error

    @failing.command()
    def other() -> None:
        """A second command, so that the first is named."""

    return failing
