"""`spinmeround reconstruct`: what its options mean, and which contradictions it refuses."""

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.cli.generate import SamplingOptions
from spinmeround.flows.cli.reconstruct import SourceOptions, request_of
from spinmeround.flows.profile import load_profile
from spinmeround.tasks.generation.params import HeadInput, PhotoInput
from spinmeround.tasks.reconstruction.params import FolderViews, GeneratedViews, TrueViews

PROFILE = load_profile("demo", ["views.radius=3.0"])


def request(**options):
    """The views that the options ask for."""
    return request_of(SourceOptions(**options), SamplingOptions(seed=3), PROFILE).views


def test_a_head_is_reconstructed_from_its_true_views() -> None:
    """--head alone asks for no model."""
    assert request(head="procedural-000001") == TrueViews(head="procedural-000001")


def test_generated_views_are_48_to_fit_and_8_to_score() -> None:
    """By default 14 azimuths at 4 elevations, with the profile's radius and the sampling options."""
    found = request(head="procedural-000001", generated=True)
    assert isinstance(found, GeneratedViews)
    assert found.params.given == HeadInput(head="procedural-000001")
    assert found.params.views.views == 48 + PROFILE.reconstruct.held_out
    assert found.params.views.radius == 3.0
    assert found.params.seed == 3
    other = request(head="procedural-000001", generated=True, cameras="orbit:60")
    assert isinstance(other, GeneratedViews)
    assert other.params.views.azimuths == 60


def test_a_photo_is_given_to_the_model(tmp_path: Path) -> None:
    """With its absolute path, as a worker reads it."""
    photo = tmp_path / "me.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    found = request(photo=photo)
    assert isinstance(found, GeneratedViews)
    assert isinstance(found.params.given, PhotoInput)
    assert found.params.given.file == str(photo)


def test_a_folder_is_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative folder means the same for the worker."""
    (tmp_path / "views").mkdir()
    (tmp_path / "views" / "transforms.json").write_text("{}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert request(views=Path("views")) == FolderViews(folder=str(tmp_path / "views"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one of --head, --photo and --views, got none"),
        (["--head", "a", "--views", "b"], "got --head and --views"),
        (["--views", "nowhere"], "--views nowhere: expected a folder with a transforms.json, found none"),
        (["--photo", "none.png"], "--photo none.png: expected a file, found none"),
        (["--photo", "none.png", "--generated"], "--generated: expected --head"),
        (["--head", "a", "--generated", "--cameras", "ring"], "--cameras: expected orbit:N"),
        (["--head", "a", "--steps", "5", "--set", "reconstruct.held_out=0"], "reconstruct.held_out"),
    ],
    ids=["none", "two", "no folder", "no photo", "photo generated", "cameras", "field"],
)
def test_contradictions_are_refused(arguments: list[str], message: str) -> None:
    """Exit status 2 and one line that names the option, before any server is started."""
    result = CliRunner().invoke(app, ["reconstruct", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
