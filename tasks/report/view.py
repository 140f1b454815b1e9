"""The values that the report's templates display: pictures as data URIs with alternative text, and formatted text.

All of it is computed from `ReportData`; layout is up to the templates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from spinmeround.models.metrics.definitions import metric_of, signed_text
from spinmeround.tasks.heads.review import REASON
from spinmeround.tasks.pictures.webp import (
    SpriteSheet,
    cut_out,
    data_uri,
    directions,
    nearest_view,
    resize,
    row_uri,
    sprite_sheet,
)
from spinmeround.tasks.report.data import HeadCard, Likeness, NovelViews, Orbit, OrbitHead, ReportData
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.tables import joined


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture of the page with its alternative text; width and height are in pixels."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """A screening score as text; `failing` is true if it is a reason for the drop."""

    name: str
    value: str
    failing: bool


@dataclass(frozen=True, kw_only=True)
class Card:
    """A head of a contact sheet, ready for the page."""

    id: str
    tile: Tile | None
    reasons: tuple[str, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class DropGroup:
    """The dropped heads with the same first reason, and cards of some of them.

    `count` is the number of heads with this first reason, `total` that of all heads with this reason.
    """

    label: str
    count: int
    total: int
    cards: tuple[Card, ...]


@dataclass(frozen=True, kw_only=True)
class ViewerHead:
    """One head of the viewer: a small frontal picture, and all views as sprite sheets (the mask is RGB's alpha)."""

    id: str
    face: str
    rgb: SpriteSheet
    normals: SpriteSheet


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """The heads of the viewer, the angles of their views in degrees, and the index of the frontal view.

    `requested` is the number of heads before the size limit; `side` is the size of a dataset view in pixels.
    """

    azimuth: tuple[float, ...]
    elevation: tuple[float, ...]
    front: int
    heads: tuple[ViewerHead, ...]
    requested: int
    side: int

    @property
    def ids(self) -> list[str]:
        """The heads' ids, in the order of the viewer."""
        return [head.id for head in self.heads]

    @property
    def cell(self) -> int:
        """Side of a view in the sprite sheets, in pixels."""
        return self.heads[0].rgb.cell

    def for_script(self) -> dict[str, Any]:
        """The data that the page's script reads."""
        return {
            "azimuth": self.azimuth,
            "elevation": self.elevation,
            "front": self.front,
            "cell": self.cell,
            "columns": self.heads[0].rgb.columns,
            "heads": [{"id": head.id, "rgb": head.rgb.uri, "normals": head.normals.uri} for head in self.heads],
        }


@dataclass(frozen=True, kw_only=True)
class LikenessCard:
    """Similar heads: captioned pictures, and their similarities as text."""

    tiles: tuple[tuple[str, Tile], ...]
    values: tuple[tuple[str, str], ...]
    remarkable: bool


@dataclass(frozen=True, kw_only=True)
class NovelRow:
    """One row of a novel-view figure: its label and one picture per view."""

    label: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class NovelFigure:
    """One held-out head: the input views, then generated and true views by angle."""

    id: str
    inputs: tuple[tuple[str, Tile], ...]
    angles: tuple[str, ...]
    rows: tuple[NovelRow, ...]
    metrics: tuple[tuple[str, str], ...]
    stops: Mapping[str, Any]
    """What the script of the comparison reads, by view in the order of the rows: `angles`, and as `baseline` the input
    picture whose camera is nearest; `psnr` by panel, and `front`, the view nearest to the front."""
    rank: str = ""


def angle(azimuth_deg: float, elevation_deg: float) -> str:
    """A viewing direction as text: azimuth in (-180, 180], then the elevation unless it is 0."""
    azimuth = float(_wrapped(azimuth_deg))
    text = _degrees(azimuth) if abs(azimuth) < 179.95 else "180°"
    return text if abs(elevation_deg) < 0.05 else f"{text}, {_degrees(elevation_deg)}"


def score_label(name: str) -> str:
    """The name of a score as text: "one-sided dents"."""
    return name.replace("one_sided", "one-sided").replace("_", " ")


def reason_label(reason: str) -> str:
    """A reason for a drop as text."""
    return "manual review" if reason == REASON else score_label(reason)


def head_card(card: HeadCard, params: ReportParams) -> Card:
    """The pictures of a head side by side in one tile, and its scores as text."""
    tile = None
    if len(card.pictures):
        pictures = resize(cut_out(card.pictures, card.mask), params.picture_resolution)
        count, height, width = pictures.shape[:3]
        alt = f"Head {card.id}: {joined(list(card.captions))}"
        tile = Tile(uri=row_uri(pictures, quality=params.quality), alt=alt, width=count * width, height=height)
    scores = tuple(
        Score(name=score_label(name), value=signed_text(f"{value:.3g}"), failing=name in card.reasons)
        for name, value in card.scores.items()
    )
    reasons = tuple(reason_label(reason) for reason in card.reasons)
    return Card(id=card.id, tile=tile, reasons=reasons, scores=scores)


def drop_groups(data: ReportData, params: ReportParams) -> list[DropGroup]:
    """Dropped heads grouped by first reason, the most frequent reason first."""
    counts, totals = data.counts.screened_out, data.counts.screen_reasons
    return [
        DropGroup(
            label=reason_label(reason),
            count=counts[reason],
            total=totals.get(reason, counts[reason]),
            cards=tuple(head_card(card, params) for card in data.dropped if card.reasons[:1] == (reason,)),
        )
        for reason in sorted(counts, key=lambda reason: (-counts[reason], reason))
    ]


def viewer(orbit: Orbit | None, params: ReportParams) -> Viewer | None:
    """Sprite sheets of the heads that fit into `viewer_megabytes`, at least one; None if there are no heads."""
    if orbit is None or not orbit.heads:
        return None
    front = nearest_view(orbit.azimuth_deg, orbit.elevation_deg, (0.0, 0.0))
    heads: list[ViewerHead] = []
    size = 0
    for head in orbit.heads:
        encoded = _viewer_head(head, front, params)
        size += len(encoded.face) + len(encoded.rgb.uri) + len(encoded.normals.uri)
        if heads and size > params.viewer_megabytes * 1e6:
            break
        heads.append(encoded)
    return Viewer(
        azimuth=_rounded(orbit.azimuth_deg),
        elevation=_rounded(orbit.elevation_deg),
        front=front,
        heads=tuple(heads),
        requested=len(orbit.heads),
        side=orbit.side,
    )


def novel_figure(views: NovelViews, params: ReportParams) -> NovelFigure:
    """The rows of a novel-view figure in the order of azimuth, with angles and metrics as text."""
    order = np.lexsort([views.elevation_deg, _wrapped(views.azimuth_deg)])
    angles = tuple(angle(views.azimuth_deg[view], views.elevation_deg[view]) for view in order)
    input_angles = [angle(*pair) for pair in zip(views.input_azimuth_deg, views.input_elevation_deg, strict=True)]
    rows = {"generated": views.generated_rgb, "ground truth": views.true_rgb}
    if views.generated_normals is not None:
        rows |= {"generated normals": views.generated_normals, "ground truth normals": views.true_normals}
    known = [(metric_of(name), value) for name, value in views.metrics.items() if value is not None]
    return NovelFigure(
        id=views.id,
        inputs=tuple(
            zip(
                input_angles,
                _tiles(views.input_rgb, f"{views.id}, input view", input_angles, params),
                strict=True,
            )
        ),
        angles=angles,
        rows=tuple(
            NovelRow(label=label, tiles=_tiles(pictures[order], f"{views.id}, {label}", angles, params))
            for label, pictures in rows.items()
        ),
        metrics=tuple((metric.label, metric.text(value) + metric.suffix) for metric, value in known),
        stops=_stops(views, order, angles),
        rank=views.rank,
    )


def likeness_card(likeness: Likeness, params: ReportParams) -> LikenessCard:
    """The pictures of similar heads, and their similarities as text."""
    tiles: list[tuple[str, Tile]] = []
    for each in likeness.pictures:
        picture = each.rgb[None] if each.mask is None else cut_out(each.rgb, each.mask)[None]
        (tile,) = _tiles(picture, f"Head {each.caption}", ["the front"], params)
        tiles.append((each.caption, tile))
    values = tuple((name, signed_text(f"{value:.2f}")) for name, value in likeness.values.items())
    return LikenessCard(tiles=tuple(tiles), values=values, remarkable=likeness.remarkable)


def memorised_summary(likenesses: Sequence[Likeness]) -> str:
    """How many generated heads are nearer to a training head than to the truth, as a sentence."""
    nearer = sum(each.remarkable for each in likenesses)
    which = f"{nearer or 'None'} of {len(likenesses)}"
    return f"{which} generated heads {'is' if nearer == 1 else 'are'} nearer to a training head than to the true head."


def _stops(views: NovelViews, order: Int[np.ndarray, " view"], angles: Sequence[str]) -> dict[str, Any]:
    given = directions(views.input_azimuth_deg, views.input_elevation_deg)
    wanted = directions(views.azimuth_deg, views.elevation_deg)[order]
    known = {"model": "model", "baseline": "nearest_input_view"}
    return {
        "angles": list(angles),
        "baseline": np.argmax((wanted @ given.T).round(6), axis=1).tolist() if len(given) else [],
        "psnr": {
            panel: [views.psnr[name][view] for view in order] for panel, name in known.items() if name in views.psnr
        },
        "front": int(np.argmax((wanted @ directions(np.zeros(1), np.zeros(1))[0]).round(6))),
    }


def _viewer_head(head: OrbitHead, front: int, params: ReportParams) -> ViewerHead:
    rgb = resize(cut_out(head.rgb, head.mask), params.viewer_resolution)
    normals = resize(head.normals, params.viewer_resolution)
    return ViewerHead(
        id=head.id,
        face=data_uri(rgb[front], quality=params.quality),
        rgb=sprite_sheet(rgb, quality=params.quality),
        normals=sprite_sheet(normals, quality=params.quality),
    )


def _wrapped(azimuth_deg: Float[np.ndarray, "*view"] | float) -> Float[np.ndarray, "*view"]:
    """Azimuths wrapped to (-180, 180]."""
    return 180 - (180 - np.asarray(azimuth_deg, np.float64)) % 360


def _degrees(angle_deg: float) -> str:
    """An angle with its sign (U+2212 for minus), to a tenth of a degree, without trailing zeros; 0 has no sign."""
    rounded = round(float(angle_deg), 1)
    return f"{signed_text(f'{rounded:+g}')}°" if rounded else "0°"


def _rounded(angles_deg: Float[np.ndarray, " view"]) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in angles_deg)


def _tiles(
    pictures: UInt8[np.ndarray, "view height width 3"], alt: str, angles: Sequence[str], params: ReportParams
) -> tuple[Tile, ...]:
    small = resize(pictures, params.picture_resolution)
    return tuple(
        Tile(uri=data_uri(p, quality=params.quality), alt=f"{alt} at {at}", width=p.shape[1], height=p.shape[0])
        for p, at in zip(small, angles, strict=True)
    )
