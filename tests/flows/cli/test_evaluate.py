"""`spinmeround evaluate` and `evaluate-inputs`: what their options mean."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.cli.pipeline import method_overrides, preset_overrides
from spinmeround.flows.profile import load_profile
from spinmeround.flows.profile.loading import parse_overrides
from spinmeround.storage.dataset import publish
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.heads.embed import EmbedParams
from tests.support.heads import write_heads


def test_each_folder_is_a_method_of_the_profile(tmp_path: Path) -> None:
    """Folders are made absolute and named by themselves, or by --name in order, whatever characters they have."""
    folders = [tmp_path / "eg3d", tmp_path / 'a "b" = 1']
    named = EvaluateParams(**parse_overrides(method_overrides(folders, ["EG3D", "2"]))["evaluate"])
    assert named.predictions == {"EG3D": str(folders[0]), "2": str(folders[1])}
    alone = EvaluateParams(**parse_overrides(method_overrides(folders[:1], []))["evaluate"])
    assert alone.predictions == {"eg3d": str(folders[0])}
    assert method_overrides([], []) == []


def test_a_preset_chooses_the_views_of_a_benchmark() -> None:
    """Its fields come before those of --set, which change it; the other fields are the profile's."""
    found = load_profile("demo", [*preset_overrides("ablation"), "evaluate.heads=3"]).evaluate
    assert (found.heads, found.conditioning_views, found.targets, found.frontal_input) == (3, 1, 10, True)
    assert (found.anchored, found.schedule) == (False, load_profile("demo").evaluate.schedule)
    captured = load_profile("demo", preset_overrides("nersemble")).evaluate
    assert (captured.heads, captured.split, captured.targets, captured.frontal_input) == (0, "all", 0, True)
    assert preset_overrides(None) == []


@pytest.mark.parametrize(
    ("names", "message"), [(["a"], "expected one for each of 2"), (["a", "a"], "of one method"), (["a", "b.c"], "b.c")]
)
def test_wrong_names_are_refused(names: list[str], message: str) -> None:
    """Too few, one twice, and one that would be a field of a field."""
    with pytest.raises(ConfigError, match=message):
        method_overrides([Path("x"), Path("y")], names)


def test_inputs_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command prints what a method has to make, and never overwrites a folder."""
    split = {"split": {"validation": 0.0, "test": 0.9}}
    dataset = publish(tmp_path / "datasets", write_heads(tmp_path / "heads", range(10)), split).path
    params = SimpleNamespace(evaluate=EvaluateParams(heads=2, targets=2, frontal_targets=1), embed=EmbedParams())
    monkeypatch.setattr("spinmeround.flows.profile.load_profile", lambda name, overrides: params)
    arguments = ["evaluate-inputs", str(dataset), "--to", str(tmp_path / "inputs")]
    first, second = (CliRunner().invoke(app, arguments) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 2)
    assert "4 pictures" in first.output
    assert len((tmp_path / "inputs" / "wanted.txt").read_text().split()) == 4
    assert "found one that does; choose another" in second.output
