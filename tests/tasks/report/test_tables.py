from dataclasses import replace

import pytest

from spinmeround.tasks.report.data import EvaluationSection
from spinmeround.tasks.report.tables import comparisons, flattened, joined, metric_rows
from tests.tasks.report.synthetic import evaluation

pytestmark = pytest.mark.fast


def test_best_values_follow_each_metrics_direction():
    """The mean image is best in L2 (lower) and PSNR (higher), the model in the other metrics."""
    best = {row.metric.label: [cell.best for cell in row.cells] for row in metric_rows(evaluation())}
    assert best["L2"] == [False, False, True]
    assert best["PSNR"] == [False, False, True]
    assert best["normal angular error"] == [True, False, False]
    assert best["LPIPS"] == [False, False, False]


def test_values_that_are_equal_as_written_are_equally_good():
    """Digits that the table does not show decide nothing."""
    baselines = {"nearest_input_view": {"psnr": 19.999}}
    level = EvaluationSection(model={"psnr": 20.001}, baselines=baselines, missing={}, heads=1)
    assert [cell.best for cell in metric_rows(level)[0].cells] == [True, True]
    assert [(each.sentence, each.loses) for each in comparisons(level)] == [
        ("Compared with a copy of the nearest input view, the model is level in PSNR.", False)
    ]


def test_missing_metric_keeps_its_row_and_its_reason():
    """A metric without any value has a row with its reason, or "not computed"."""
    shown = {row.metric.label: row.missing for row in metric_rows(evaluation())}
    assert "LPIPS weights" in shown["LPIPS"]
    bare = replace(evaluation(), missing={})
    assert {row.metric.label: row.missing for row in metric_rows(bare)}["LPIPS"] == "not computed"


def test_metric_with_missing_heads_has_a_note():
    """The row shows the mean of the heads that have a value, and names those without one."""
    partly = replace(evaluation(), missing={"identity_similarity": "procedural-000007: no target is frontal"})
    row = {row.metric.label: row for row in metric_rows(partly)}["identity similarity"]
    assert (row.cells[0].text, row.missing) == ("0.610", "")
    assert "000007" in row.note


def test_comparison_lists_the_metrics_in_which_the_model_is_worse():
    """One sentence per baseline; only a baseline that is better in some metric sets `loses`."""
    nearest, mean = comparisons(evaluation())
    assert (nearest.loses, mean.loses) == (False, True)
    assert mean.sentence.endswith("and worse in L2 and PSNR.")


def test_values_have_a_true_minus():
    """A negative value is written with U+2212, as angles are."""
    one = EvaluationSection(model={"identity_similarity": -0.0064}, baselines={}, missing={}, heads=1)
    assert metric_rows(one)[0].cells[0].text == "−0.006"


def test_unknown_metric_is_shown_under_its_own_name():
    """A new metric appears without a change to the report."""
    one = EvaluationSection(model={"chamfer_distance": 0.25}, baselines={}, missing={}, heads=1)
    (row,) = metric_rows(one)
    assert (row.metric.label, row.cells[0].text) == ("chamfer distance", "0.2500")


def test_flattened_parameters_are_dotted_names():
    """Names have the form of `--set`; an empty table stays a value."""
    nested = {"mesh": {"level": 10.0}, "generator": {"name": "procedural", "options": {}}}
    assert flattened(nested) == {"mesh.level": 10.0, "generator.name": "procedural", "generator.options": {}}


def test_joined_items_form_an_english_list():
    """One, two and three items."""
    assert [joined(items) for items in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_cells_have_intervals_and_p_values():
    """Intervals have the metric's own digits; p-values stand beside what the model is compared with."""
    measured = replace(
        evaluation(),
        methods={"eg3d": {"psnr": 16.0}},
        intervals={"model": {"psnr": (16.2, 18.4)}},
        p_values={"eg3d": {"psnr": 0.0004}, "nearest_input_view": {"psnr": 0.0312}},
    )
    cells = {row.metric.label: row.cells for row in metric_rows(measured)}["PSNR"]
    assert [cell.interval for cell in cells] == ["16.20 to 18.40", "", "", ""]
    assert [cell.p_value for cell in cells] == ["", "p = 0.031", "", "p < 0.001"]
    assert comparisons(measured)[2].sentence == "Compared with eg3d, the model is better in PSNR."
