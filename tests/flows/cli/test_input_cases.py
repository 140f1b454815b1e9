"""The files of `tests/cases` that people give to commands: read, or refused in one line that names the file."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.profile import load_profile
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.generation.inputs import photo_angles, read_identity
from spinmeround.tasks.generation.params import PhotoInput
from spinmeround.tasks.screening.decisions import GeneratorId, read_decisions
from tests.support.weights import write_autoencoder

ROOT = Path(__file__).parents[3]
CASES = ROOT / "tests" / "cases"
REFUSED = {
    "empty": "found an empty file",
    "cut": "found none that can be read",
    "header_only": "found none that can be read",
    "petabyte": "found none that can be read",
    "bad_zip": "found none that can be read",
    "not_numpy": "found none that can be read",
    "objects": "found none that can be read",
    "npz": "found an .npz archive of identity",
    "zip_as": "found an .npz archive of",
    "text": "found an array of <U3",
    "complex": "found an array of complex64",
    "nan": "found 512 that are not finite",
    "zeros": "found only zeros",
    "matrix": r"found shape \(1, 512\)",
}
ACCEPTED = {"big_float16": 1.0, "big_float32": 1.0, "big_float64": -1.0, "tiny_float64": 1.0}


def test_every_identity_has_an_expectation():
    """A new file of the folder needs a row above."""
    assert {path.stem for path in (CASES / "identity_files").glob("*.npy")} == REFUSED.keys() | ACCEPTED.keys()


@pytest.mark.parametrize("name", REFUSED)
def test_identities_are_refused_by_the_command(name, tmp_path):
    """`generate identity`: exit status 2 and one line, before anything is computed."""
    path = CASES / "identity_files" / f"{name}.npy"
    result = CliRunner().invoke(app, ["generate", "identity", str(path), "--runs", str(tmp_path)])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    with pytest.raises(ConfigError, match=REFUSED[name]) as raised:
        read_identity(path)
    assert result.stderr.strip() == f"error: {raised.value}"
    assert str(raised.value).startswith(f"{path}: expected ")


@pytest.mark.parametrize("name", ACCEPTED)
def test_identities_of_any_length_become_unit_vectors(name):
    """Numbers whose squares overflow or vanish give the same direction as others."""
    found = read_identity(CASES / "identity_files" / f"{name}.npy")
    np.testing.assert_allclose(found, ACCEPTED[name] / np.sqrt(512), rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, np.int8, np.uint32, ">f4"])
def test_identities_of_any_type(kind, tmp_path):
    """Every kind of real numbers, in any byte order, gives the same vector."""
    values = np.arange(512) % 100
    np.save(tmp_path / "identity.npy", values.astype(kind))
    np.testing.assert_allclose(read_identity(tmp_path / "identity.npy"), values / np.linalg.norm(values), rtol=1e-6)


def test_an_identity_may_not_be_a_large_file(tmp_path):
    """A file of gigabytes is refused without being read."""
    with (tmp_path / "large.npy").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match="found a file of more than 1,048,576 bytes"):
        read_identity(tmp_path / "large.npy")


@pytest.mark.parametrize("name", ["bom", "umlaut"])
def test_profiles_in_utf8(name):
    """With a byte order mark, and with letters of any language."""
    assert load_profile(str(CASES / "text_encodings" / f"{name}.toml")).plan.heads == 3


@pytest.mark.parametrize(("name", "found"), [("latin1", "another encoding"), ("utf16", "UTF-16")])
def test_profiles_in_other_encodings(name, found):
    """`plan`: exit status 2 and one line that asks for UTF-8."""
    path = CASES / "text_encodings" / f"{name}.toml"
    result = CliRunner().invoke(app, ["plan", "--profile", str(path)])
    assert result.exit_code == 2
    assert (
        result.stderr.strip()
        == f"error: profile {path}: expected a TOML file in UTF-8, found {found}; save it as UTF-8"
    )


def test_decisions_and_labels_with_a_byte_order_mark(tmp_path):
    """Are read as without it."""
    generator = GeneratorId(name="tiny", fingerprint="tiny-1")
    found = read_decisions(CASES / "text_encodings" / "bom_decisions.json", generator)
    assert found.decisions["tiny-000001"].note == "schön"
    shutil.copy(CASES / "text_encodings" / "bom_label.json", tmp_path / "photo.json")
    assert photo_angles(PhotoInput(file=str(tmp_path / "photo.png"))) == (20.0, -5.0)


@pytest.mark.parametrize("label", ["[" * 100_000, '{"camera": {"azimuth_deg": 1' + "0" * 400 + "}}", "null", "{", ""])
def test_labels_of_other_content(label, tmp_path):
    """`generate photo`: one line, for JSON that is nested too deeply or holds a number of 400 digits, too."""
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photo.png")
    (tmp_path / "photo.json").write_text(label, encoding="utf-8")
    result = CliRunner().invoke(app, ["generate", "photo", str(tmp_path / "photo.png"), "--runs", str(tmp_path)])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert f"{tmp_path / 'photo.json'}: " in result.stderr


def test_angles_out_of_range_print_no_address(tmp_path):
    """pydantic's error names the field, without the address of its documentation."""
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photo.png")
    arguments = ["generate", "photo", str(tmp_path / "photo.png"), "--azimuth", "400"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stderr.strip().endswith("azimuth_deg: input should be less than or equal to 360, got 400.0")


@pytest.mark.parametrize("file", ["config.json", "encoder_config.json"])
def test_configurations_that_do_not_fit(file, tmp_path):
    """`weights check`: the part is invalid, in a line that names the file; exit status 1."""
    from spinmeround.storage.errors import SpinMeRoundError
    from spinmeround.tasks.weights.inspect import inspect

    part = "arc2face-unet" if file == "config.json" else "arc2face-encoder"
    folder = write_autoencoder(tmp_path / "weights")
    shutil.copy(CASES / "config_bad" / file, folder / "config.json")
    tensors = next(folder.glob("*.safetensors"))
    shutil.copy(tensors, folder / "model.safetensors")
    with pytest.raises(SpinMeRoundError, match="found one that does not fit: ") as raised:
        inspect(part, folder)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"{folder / 'config.json'}: expected ")


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b.toml", "~nobody-of-this-name/x.toml", "x" * 5000 + ".toml"])
def test_paths_that_cannot_exist(path, tmp_path):
    """Names that are too long or hold a null byte are refused as files that are missing."""
    with pytest.raises(ConfigError, match="found none"):
        load_profile(path)
    with pytest.raises(ConfigError, match="found "):
        read_decisions(Path(path), GeneratorId(name="tiny", fingerprint="tiny-1"))


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "en_US.ISO-8859-1"}])
def test_commands_work_in_a_locale_without_utf8(locale, tmp_path):
    """A profile in UTF-8 is read, from a folder with letters of any language, and its path is printed."""
    folder = tmp_path / "头"
    folder.mkdir()
    shutil.copy(CASES / "text_encodings" / "umlaut.toml", folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", **locale}
    for name, status in (("umlaut", 0), ("none", 2)):
        program = "from spinmeround.flows.cli.app import main; main()"
        command = [sys.executable, "-c", program, "plan", "--profile", f"头/{name}.toml", "--runs", "头"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=120)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode == status, output
        assert status == 0 or "error: profile '头/none.toml': expected one of" in output


def test_profiles_are_read_in_any_locale():
    """By the functions below the commands, too, which run in the locale of their caller."""
    profile = str(CASES / "text_encodings" / "umlaut.toml")
    script = f"from spinmeround.flows.profile import load_profile; load_profile({profile!r})"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
