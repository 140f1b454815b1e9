from dataclasses import replace

from spinmeround.tasks.report.data import Evaluation
from spinmeround.tasks.report.tables import flattened, listed, metric_rows, verdicts
from tests.tasks.report.synthetic import evaluation


def test_best_values_follow_each_metrics_direction():
    """The mean image wins where lower L2 and higher PSNR win, the model in the others."""
    best = {row.metric.label: [cell.best for cell in row.cells] for row in metric_rows(evaluation())}
    assert best["L2"] == [False, False, True]
    assert best["PSNR"] == [False, False, True]
    assert best["normal angular error"] == [True, False, False]
    assert best["LPIPS"] == [False, False, False]


def test_values_that_are_written_alike_are_equally_good():
    """Nobody wins by digits that the table does not show."""
    level = Evaluation(model={"psnr": 20.001}, baselines={"nearest_input_view": {"psnr": 19.999}}, missing={}, heads=1)
    assert [cell.best for cell in metric_rows(level)[0].cells] == [True, True]
    assert [(v.sentence, v.loses) for v in verdicts(level)] == [
        ("Against the nearest input view, copied, the model is level in PSNR.", False)
    ]


def test_missing_metric_keeps_its_row_and_its_reason():
    """A metric that is only named as missing is shown, and so is one that nobody computed."""
    shown = {row.metric.label: row.missing for row in metric_rows(evaluation())}
    assert "weights of LPIPS" in shown["LPIPS"]
    bare = replace(evaluation(), missing={})
    assert {row.metric.label: row.missing for row in metric_rows(bare)}["LPIPS"] == "not computed"


def test_value_that_some_heads_lack_is_shown_with_a_note():
    """A reason does not hide the mean of the heads that have a value."""
    partly = replace(evaluation(), missing={"identity_similarity": "procedural-000007: no target is frontal"})
    row = {row.metric.label: row for row in metric_rows(partly)}["identity similarity"]
    assert (row.cells[0].text, row.missing) == ("0.610", "")
    assert "000007" in row.note


def test_verdict_says_where_the_model_loses():
    """One sentence a baseline; only the one that wins somewhere is marked."""
    nearest, mean = verdicts(evaluation())
    assert (nearest.loses, mean.loses) == (False, True)
    assert mean.sentence.endswith("and worse in L2 and PSNR.")


def test_metric_that_is_not_known_is_shown_under_its_own_name():
    """A new metric appears without a change of the report."""
    one = Evaluation(model={"chamfer_distance": 0.25}, baselines={}, missing={}, heads=1)
    (row,) = metric_rows(one)
    assert (row.metric.label, row.cells[0].text) == ("chamfer distance", "0.2500")


def test_flattened_parameters_are_dotted_names():
    """Names are those that the command line takes; an empty table stays a value."""
    nested = {"mesh": {"level": 10.0}, "generator": {"name": "procedural", "options": {}}}
    assert flattened(nested) == {"mesh.level": 10.0, "generator.name": "procedural", "generator.options": {}}


def test_lists_in_english():
    """One, two and three words."""
    assert [listed(words) for words in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
