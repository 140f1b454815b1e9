"""The report of a run: one HTML file that needs nothing but itself.

`render_report` is a pure function: the same data gives the same file, byte for byte. Pictures, style and
script are inside the file, and its content security policy forbids it to load anything else.
"""

from pathlib import Path

from spinmeround.storage.errors import environment_errors
from spinmeround.storage.files import write_atomic
from spinmeround.tasks.html import template
from spinmeround.tasks.report.collect import FinishedRun, collect_report
from spinmeround.tasks.report.curves import curve_summary
from spinmeround.tasks.report.data import ReportData
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.tables import flattened, heading, metric_rows, verdicts
from spinmeround.tasks.report.view import drop_groups, head_card, novel_figure, viewer


def run_report(run: FinishedRun, target: Path, params: ReportParams) -> Path:
    """Write the report of a run to the file `target`, and return it."""
    return write_report(target, collect_report(run, params), params)


def render_report(data: ReportData, params: ReportParams = ReportParams()) -> str:  # noqa: B008 (frozen)
    """The report as HTML."""
    return template("report.html.j2").render(
        data=data,
        params=params,
        kept=[head_card(card, params) for card in data.kept],
        drop_groups=drop_groups(data, params),
        rescued=[head_card(card, params) for card in data.rescued],
        viewer=viewer(data.orbit, params),
        curves=[summary for summary in map(curve_summary, data.curves) if summary],
        novel_views=[novel_figure(views, params) for views in data.novel_views],
        metric_rows=metric_rows(data.evaluation) if data.evaluation else [],
        verdicts=verdicts(data.evaluation) if data.evaluation else [],
        heading=heading,
        flattened=flattened,
        longest_stage=max((stage.seconds for stage in data.stages), default=0.0),
    )


def write_report(path: Path, data: ReportData, params: ReportParams = ReportParams()) -> Path:  # noqa: B008 (frozen)
    """Write the report; whoever reads `path` sees all of it, or all of the one before."""
    page = render_report(data, params)
    with environment_errors(path):
        write_atomic(path, page.encode())
    return path
