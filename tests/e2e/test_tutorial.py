"""The tutorial on PanoHead works up to its rehearsal: its commands run, line by line, on small random weights.

Programs that reach the network or change the machine (git, pip, curl, unzip, nvidia-smi, a new environment) are stubs
that put files in the real formats in place. The rehearsal leaves out the model, which has its own test. The commands of
later steps, which build, are parsed by `tests/test_docs.py`.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.storage.hashing import sha256_file
from spinmeround.storage.weights import PARTS, Hub, find_part
from spinmeround.tasks.weights.stub import PROFILE, write_stubs
from tests.support.hub import fake_hub
from tests.support.mini_panohead import write_checkout

PAGE = Path(__file__).parents[2] / "docs/tutorials/panohead.md"
PICKLE = find_part("panohead").path
UNTIL = "## 7. "
"""The first step that is not run."""
SIZES = """
[plan]
heads = 4
[views]
azimuths = 8
elevations_deg = [0.0]
[sample]
resolution = 32
previews = { azimuths = 4, elevations_deg = [0.0] }
"""
PROGRAMS = {
    "spinmeround": f'exec {sys.executable} -c "from spinmeround.flows.cli.app import main; main()" "$@"',
    "nvidia-smi": "echo no GPU",
    "pip": "echo pip $*",
    "python3": 'test "$*" = "-m venv .venv" && mkdir -p .venv/bin && touch .venv/bin/activate',
    "git": 'test "$1" = clone && mkdir -p "$(dirname "$3")" && cp -r "$STUBS/checkout" "$3"',
    "unzip": 'test "$1 $3" = "-j -d" && mkdir -p "$(dirname "$4")" && cp -r "$STUBS/antelopev2" "$4"',
    "curl": 'while [ "$1" != -o ]; do shift; done; cp "$STUBS/$(basename "$2")" "$2"',
}


def steps(text: str) -> Iterator[tuple[str, str]]:
    """The blocks of profiles, and each command of the shell, in the order of the page."""
    for language, block in re.findall(r"^```(bash|toml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language == "toml":
            yield language, block
        else:
            yield from ((language, line) for line in block.replace("\\\n", " ").splitlines() if line.strip())


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """Everything that the page gets from elsewhere, and the programs that get it."""
    folder = tmp_path / "stubs"
    checkout = write_checkout(folder / "checkout", centre=(0.0, 0.0, 0.0))  # where the stub detector looks
    list(write_stubs(folder, small=True, panohead_checkout=checkout, seed=0))
    (folder / "bin").mkdir()
    for name, script in PROGRAMS.items():
        path = folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.fixture
def place(stubs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's folder with what a person downloads by hand, and a base of the profile with the stubs' sizes."""
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copy(stubs / PICKLE, folder)
    (folder / "antelopev2.zip").touch()
    (folder / "base.toml").write_text(sizes_of((stubs / PROFILE).read_text(), stubs))
    monkeypatch.chdir(folder)
    return folder


def sizes_of(profile: str, stubs: Path) -> str:
    """The stubs' profile without their paths: those of the page are found where it puts them."""
    lines = [line for line in profile.splitlines() if str(stubs) not in line and not line.startswith("sha256")]
    text = "\n".join(lines).replace("[score]\n", "[score]\ncells = 32\n") + SIZES
    return re.sub(
        r"^\[(encode|train\.initial|evaluate|reconstruct|generator\.options)\]\n", "", text, flags=re.MULTILINE
    )


def hub_files(stubs: Path) -> dict[str, bytes]:
    """The files of the hub's repositories."""
    found = {}
    for part in PARTS:
        if isinstance(part.source, Hub):
            home = stubs / part.source.home
            files = [path for path in home.rglob("*") if path.is_file()]
            found |= {f"{part.source.repository}/{path.relative_to(home)}": path.read_bytes() for path in files}
    return found


def run(command: str, environment: dict[str, str]) -> None:
    """Run one command of the page."""
    words = [*command.split(), *(["--no-model"] if " rehearse " in command else [])]
    if words[0] == "spinmeround" and words[1:3] != ["weights", "fetch"]:  # it reads HF_ENDPOINT when it starts
        with patch.dict(os.environ, environment):
            result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception}"
    else:
        done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_commands_of_the_tutorial_run(stubs: Path, place: Path, environment: dict[str, str]) -> None:
    """Every command succeeds, with each part where the page puts it and the profile looks for it."""
    path, sha256 = f"{stubs / 'bin'}:{os.environ['PATH']}", sha256_file(place / PICKLE)
    with fake_hub(hub_files(stubs)) as hub:
        shell = {**environment, "PATH": path, "STUBS": str(stubs), "HF_ENDPOINT": hub.endpoint}
        for language, text in steps(PAGE.read_text(encoding="utf-8").split(UNTIL)[0]):
            if language == "bash":
                run(text, shell)
                continue
            text = text.replace('"panohead"', '"base.toml"').replace("0" * 64, sha256)
            with (place / "heads.toml").open("a") as file:
                file.write(text)
    assert {folder.name for folder in (place / "weights").iterdir()} >= {"PanoHead", PICKLE, "antelopev2", "arc2face"}


@pytest.mark.fast
def test_the_steps_of_a_page() -> None:
    """Continued lines are one command, comments in text are none."""
    text = "```bash\na \\\n  b\nc\n```\nx\n```toml\nd = 1\n```\n```python\nno\n```\n"
    assert list(steps(text)) == [("bash", "a    b"), ("bash", "c"), ("toml", "d = 1\n")]
