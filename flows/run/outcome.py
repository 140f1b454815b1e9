"""What became of a run, as one artifact in the UI: heads, stages, quarantined heads, and where the results are."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from spinmeround.storage.artifacts import Failure
from spinmeround.tasks.markdown import markdown_table

PAGES_ROOT = "SPINMEROUND_PAGES_ROOT"
"""Variable of the environment: the folder whose files `serve` serves."""
PAGES_PATH = "/files"
"""Path of these files on the server."""
_LISTED = 100


def outcome_markdown(summary: Mapping[str, Any], failures: Sequence[Failure]) -> str:
    """The summary of a run (`flows.run.summary`) in Markdown, with the quarantined heads and their reasons."""
    heads, error = summary["heads"], summary["error"]
    counts = {
        "requested": heads["asked"],
        **{f"screened out: {reason}": number for reason, number in heads["screened_out"].items()},
        "kept by review against the screen": heads["kept_by_review"],
        "quarantined": heads["quarantined"],
        "written": heads["written"],
        "pending": heads["pending"],
    }
    stages = [(name, each["made"], each["reused"], each["seconds"]) for name, each in summary["stages"].items()]
    parts = [
        *([f"**Failed:** {error}"] if error else []),
        markdown_table(("heads", "number"), counts.items()),
        *([markdown_table(("stage", "made", "reused", "seconds of all workers"), stages)] if stages else []),
        *([_quarantined(failures)] if failures else []),
        *_links(summary),
    ]
    return "\n\n".join(parts)


def link(path: str | Path, text: str) -> str:
    """A file in Markdown: a link where `serve` serves it, else its path."""
    root, file = os.environ.get(PAGES_ROOT), Path(path)
    if root and file.is_relative_to(root):
        return f"[{text}]({PAGES_PATH}/{quote(file.relative_to(root).as_posix())})"
    return f"{text}: `{file}`"


def _links(summary: Mapping[str, Any]) -> Iterable[str]:
    if summary["dataset"]:
        yield f"dataset: `{summary['dataset']['path']}`, digest `{summary['dataset']['digest']}`"
    if summary["report"]:
        yield link(summary["report"], "report")


def _quarantined(failures: Sequence[Failure]) -> str:
    rows = [(each.subject, each.stage, each.reason, each.attempts) for each in failures[:_LISTED]]
    more = f"\n\nand {len(failures) - _LISTED} more" if len(failures) > _LISTED else ""
    return markdown_table(("quarantined", "stage", "reason", "attempts"), rows) + more
