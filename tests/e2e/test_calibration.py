"""The calibration flow fits a verdict or limits to labelled heads, and a build uses them."""

import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from spinmeround.flows.calibration import calibration_flow, inspector_flow
from spinmeround.flows.run.folder import Place
from spinmeround.flows.stages import sized
from spinmeround.models.screening.scores import SCORES
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.embedded.params import InspectorParams
from spinmeround.tasks.screening.decisions import DecisionEntry, Decisions, generator_id
from spinmeround.tasks.screening.labels import Labels, Round
from spinmeround.tasks.screening.params import CalibrateParams
from tests.e2e.runs import build, copy_runs

DEFECTIVE = [1, 4, 5, 9, 13, 17]
pytestmark = pytest.mark.usefixtures("server")


def calibrated(profile, runs, **params):
    """The files that the flow writes, by name."""
    files = sized(calibration_flow, profile)(profile, CalibrateParams(folds=2, **params), Place(runs=str(runs)))
    return {file.rsplit("/", 1)[-1]: file for file in files}


@pytest.fixture(scope="module")
def labelled(tiny):
    """20 heads, 6 of which are defective, and a screen without limits."""
    generator = {"name": "tests.support.tiny:make", "options": {"clipped": DEFECTIVE}}
    return tiny(generator=generator, plan={"heads": 20}, screen={})


@pytest.fixture(scope="module")
def scored(server, labelled, tmp_path_factory):
    """A folder of runs in which these heads are scored, and the files of a calibration by the generator's labels."""
    runs = tmp_path_factory.mktemp("labelled")
    return runs, calibrated(labelled, runs, keep=0.7)


def test_a_verdict_from_the_ground_truth_drops_the_defective_heads(labelled, scored):
    """The written section is valid in a profile; a build with it scores no head again and drops the defective ones."""
    runs, files = scored
    section = tomllib.loads(Path(files["screening.toml"]).read_text(encoding="utf-8"))["screen"]
    figures = json.loads(Path(files["calibration.json"]).read_text(encoding="utf-8"))
    assert (figures["errors"]["lost"]["trials"], figures["errors"]["caught"]["trials"]) == (14, 6)
    assert {row["kind"]: (row["heads"], row["dropped"]) for row in figures["rows"]}["clipped volume"] == (6, 6)
    assert section["verdict"] == files["verdict.json"]
    assert "20 heads of tiny-000000 to tiny-000019" in section["origin"]
    page = Path(files["calibration.html"]).read_text(encoding="utf-8")
    assert page.count("<svg") == 1 + len(SCORES)
    assert "http-equiv" not in page
    found = build(labelled.model_copy(update={"screen": type(labelled.screen)(**section)}), runs)
    assert found["stages"]["score"]["made"] == 0
    assert found["heads"]["dropped"] >= 6


def test_blind_labels_of_a_person(labelled, scored, tmp_path):
    """All labels count, those of an uncertain round not for the error rates; a passed head is no label yet."""
    generator, now = generator_id(labelled.generator), datetime.now(UTC)
    file = Labels(generator=generator)
    for order, seeds in (("random", range(12)), ("uncertain", range(12, 18))):
        file, at = file.with_round(Round(order=order, seed=0, heads=20, began=now))
        for seed in seeds:
            file = file.with_label(f"tiny-{seed:06d}", "drop" if seed in DEFECTIVE else "keep", at)
    path = tmp_path / "labels.json"
    path.write_bytes(file.with_label("tiny-000019", "passed", at).to_json())
    files = calibrated(labelled, copy_runs(scored[0], tmp_path / "runs"), keep=0.7, labels=str(path))
    figures = json.loads(Path(files["calibration.json"]).read_text(encoding="utf-8"))
    assert (figures["errors"]["lost"]["trials"], figures["errors"]["caught"]["trials"]) == (8, 4)
    assert sum(row["heads"] for row in figures["rows"]) == 18
    assert "more random labels narrow this to 5.0%" in figures["advice"][0]
    assert "6 not drawn at random" in figures["origin"]


def test_labels_from_a_review(labelled, scored, tmp_path):
    """Only reviewed heads count, with the reviewer's decision instead of the ground truth; limits need no verdict."""
    choices = {f"tiny-{seed:06d}": "drop" if seed in DEFECTIVE[:4] else "keep" for seed in range(16)}
    now = datetime.now(UTC)
    decisions = Decisions(
        generator=generator_id(labelled.generator),
        decisions={name: DecisionEntry(decision=choice, time=now) for name, choice in choices.items()},
    )
    path = tmp_path / "decisions.json"
    path.write_bytes(decisions.to_json())
    runs = copy_runs(scored[0], tmp_path / "runs")
    files = calibrated(labelled, runs, keep=0.5, labels=str(path), method="limits")
    figures = json.loads(Path(files["calibration.json"]).read_text(encoding="utf-8"))
    assert (figures["errors"]["lost"]["trials"], figures["errors"]["caught"]["trials"]) == (12, 4)
    assert figures["rows"][1]["kind"] == "defective"
    assert "verdict.json" not in files
    section = tomllib.loads(Path(files["screening.toml"]).read_text(encoding="utf-8"))["screen"]
    assert set(section["limits"]) == set(figures["limits"])


def test_an_inspector_of_the_run_scores_its_heads(labelled, scored, tmp_path):
    """It is trained on their previews, without labels; with the file, a build scores all heads again."""
    runs = copy_runs(scored[0], tmp_path)
    params = InspectorParams(steps=2, batch=4, measured_batches=1)
    file = sized(inspector_flow, labelled)(labelled, params, Place(runs=str(runs)))
    score = labelled.score.model_copy(update={"inspector": file})
    found = build(labelled.model_copy(update={"score": score}), runs)
    assert (found["stages"]["sample"]["made"], found["stages"]["score"]["made"]) == (0, 20)
    inspected = [json.loads(path.read_text())["inspection"] for path in runs.glob("*/store/score/*/*/scores.json")]
    assert sum(value is not None for value in inspected) == 20


def test_a_missing_labels_file_is_reported_before_scoring(labelled, tmp_path):
    """The error names the option, and nothing is made."""
    with pytest.raises(ConfigError, match=r"--labels nowhere\.json: expected 'truth', a labels file"):
        calibrated(labelled, tmp_path, keep=0.7, labels="nowhere.json")
    assert not list(tmp_path.iterdir())


def test_too_few_defective_heads_are_an_error(tiny, built):
    """The error says how many heads of each kind there are and what to do."""
    with pytest.raises(ConfigError, match="found 4 and 0; label more heads"):
        calibrated(tiny(screen={}), built, keep=0.9)
