"""Renders the report of a run: one HTML file without external resources.

`render_report` is a pure function: the same data gives the same bytes. Pictures, style and script are inline, and the
page's content security policy forbids loading anything else.
"""

from pathlib import Path

from spinmeround.storage.errors import environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.tasks.html import template
from spinmeround.tasks.pictures.webp import data_uri
from spinmeround.tasks.report.collect import FinishedRun, collect_report
from spinmeround.tasks.report.data import ReportData
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.tables import column_heading, comparisons, flattened, metric_rows, splat_rows
from spinmeround.tasks.report.view import drop_groups, head_card, likeness_card, memorised_summary, novel_figure, viewer


def run_report(run: FinishedRun, target: Path, params: ReportParams) -> Path:
    """Write the report of a run to the file `target`, and return its path."""
    return write_report(target, collect_report(run, params), params)


def render_report(data: ReportData, params: ReportParams = ReportParams()) -> str:  # noqa: B008 (frozen)
    """The report as HTML."""
    from spinmeround.tasks.report.azimuth import azimuth_drawing  # loads SciPy and Matplotlib
    from spinmeround.tasks.report.coverage import coverage_drawing
    from spinmeround.tasks.report.curves import curve_summary
    from spinmeround.tasks.report.likeness import similarity_drawing

    memorised = () if isinstance(data.memorised, str) else data.memorised

    return template("report.html.j2").render(
        data=data,
        params=params,
        kept=[head_card(card, params) for card in data.kept],
        drop_groups=drop_groups(data, params),
        kept_by_review=[head_card(card, params) for card in data.kept_by_review],
        viewer=viewer(data.orbit, params),
        coverage=coverage_drawing(data.coverage) if data.coverage else None,
        similarity=similarity_drawing(data.likenesses) if data.likenesses else None,
        closest=[likeness_card(each, params) for each in data.likenesses.closest] if data.likenesses else [],
        memorised=[likeness_card(each, params) for each in memorised[: params.similar_heads]],
        memorised_summary=memorised_summary(memorised),
        curves=[summary for summary in map(curve_summary, data.curves) if summary],
        novel_views=[novel_figure(views, params) for views in data.novel_views],
        metric_rows=metric_rows(data.evaluation) if data.evaluation else [],
        splat_rows=splat_rows(data.splats.scores) if data.splats else [],
        comparisons=comparisons(data.evaluation) if data.evaluation else [],
        azimuths=[
            drawing for drawing in map(azimuth_drawing, data.evaluation.views if data.evaluation else ()) if drawing
        ],
        ablation_rows=metric_rows(data.ablation.evaluation) if data.ablation else [],
        ablation_figure=data_uri(data.ablation.figure, quality=params.quality) if data.ablation else "",
        column_heading=column_heading,
        flattened=flattened,
        longest_stage=max((stage.seconds for stage in data.stages), default=0.0),
    )


def write_report(path: Path, data: ReportData, params: ReportParams = ReportParams()) -> Path:  # noqa: B008 (frozen)
    """Write the report atomically, and return its path. Raises StorageUnavailable if `path` is not writable."""
    page = render_report(data, params)
    with environment_errors(path):
        write_atomic(path, page.encode())
    return path
