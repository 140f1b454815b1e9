"""A loss curve as a picture of its own, for places where the page does not style it."""

import base64
from html import escape

from spinmeround.tasks.report.curves import CurveDrawing

_STYLE = (
    "text{font:12px sans-serif;fill:#666}path{fill:none;stroke:#3468c0;stroke-width:2}"
    ".dots{stroke:#9bb4df;stroke-width:4;stroke-linecap:round}line{stroke:#ddd}"
)


def curve_svg(drawing: CurveDrawing) -> str:
    """The drawing of a curve as an SVG document."""
    rows = [
        f'<line x1="{drawing.left}" x2="{drawing.right}" y1="{tick.at:.1f}" y2="{tick.at:.1f}"/>'
        f'<text x="{drawing.left - 8}" y="{tick.at + 4:.1f}" text-anchor="end">{escape(tick.label)}</text>'
        for tick in drawing.y_ticks
    ]
    columns = [
        f'<text x="{tick.at:.1f}" y="{drawing.bottom + 20}" text-anchor="middle">{escape(tick.label)}</text>'
        for tick in drawing.x_ticks
    ]
    lines = [f'<path d="{line}"/>' for line in drawing.lines]
    size = f'width="{drawing.width}" height="{drawing.height}"'
    body = "".join([*rows, *columns, f'<path class="dots" d="{drawing.dots}"/>', *lines])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>{body}</svg>'


def svg_uri(svg: str) -> str:
    """An SVG document as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")
