"""The comparison flow: what differs between two runs, as an artifact."""

from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from spinmeround.flows.run.shown import picture_markdown
from spinmeround.tasks.markdown import markdown_table
from spinmeround.tasks.overview.compare import compare_runs, comparison_sheet, comparison_tables


@flow(name="comparison", persist_result=False)
def comparison_flow(first: str, second: str) -> None:
    """Show what differs between two runs, in numbers and pictures.

    Args:
        first: Folder of a run, for instance runs/demo, or one of its summaries/*.json.
        second: The other run.
    """
    places = Path(first).expanduser().absolute(), Path(second).expanduser().absolute()
    found = compare_runs(*places)
    parts = [f"{first} and {second}", *(markdown_table(header, rows) for _, header, rows in comparison_tables(found))]
    if found.empty:
        parts.append("No difference.")
    if (sheet := comparison_sheet(*places, found)) is not None:
        parts.append(picture_markdown(sheet, "first run, second run, difference times 4"))
    create_markdown_artifact("\n\n".join(parts), key="comparison", description="What differs between two runs")
