"""The page on which a person labels heads: one head at a time, without verdict, scores or reasons.

The page gets the previews only, so nothing on it can tell the person what the screen thinks. Each label is saved at
once; *Done* keeps every head that was passed without a mark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinmeround.tasks.html import template
from spinmeround.tasks.screening.labels import HeadLabel, Order


@dataclass(frozen=True, kw_only=True)
class LabelPage:
    """The content of the page.

    Attributes:
        heads: ids of the heads of this round, in the order in which they are shown.
        labels: the labels that the file has of these heads, by id.
        strips: URLs of the previews of each head, by id.
        strip_size: (width, height) of every strip, in pixels.
        earlier: number of heads that earlier rounds have labelled.
        command: the command that fits a verdict to the labels.
    """

    run: str
    order: Order
    heads: Sequence[str]
    labels: Mapping[str, HeadLabel]
    strips: Mapping[str, str]
    strip_size: tuple[int, int]
    earlier: int
    command: str


def render_labelling(page: LabelPage) -> str:
    """The page as HTML."""
    return template("label.html.j2").render(page=page, data=page_data(page))


def page_data(page: LabelPage) -> dict[str, Any]:
    """The data that the page's script reads."""
    marks = {name: page.labels[name].label for name in page.heads if name in page.labels}
    return {
        "heads": [{"id": name, "strip": page.strips[name], "mark": marks.get(name, "none")} for name in page.heads],
        "earlier": page.earlier,
    }
