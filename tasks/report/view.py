"""What the report's templates are given: pictures as data URIs with words for those who cannot see them, and text.

Everything here is made from `ReportData` alone; how it looks is the templates' affair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from spinmeround.tasks.heads.review import REASON
from spinmeround.tasks.pictures.webp import SpriteSheet, cut_out, data_uri, nearest_view, resize, row_uri, sprite_sheet
from spinmeround.tasks.report.data import HeadCard, NovelViews, Orbit, OrbitHead, ReportData
from spinmeround.tasks.report.params import ReportParams
from spinmeround.tasks.report.tables import listed, metric_of


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A picture of the page, with the words for those who cannot see it."""

    uri: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score of the screen as text, and whether it is a reason of the drop."""

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
    """The dropped heads whose first reason is this one: how many, some of them, and how many have it `any`where."""

    reason: str
    count: int
    any: int
    cards: tuple[Card, ...]

    @property
    def in_words(self) -> str:
        """The reason as a person says it."""
        return in_words(self.reason)


@dataclass(frozen=True, kw_only=True)
class ViewerHead:
    """One head of the viewer: a small frontal picture, and all views as sprite sheets (the mask is RGB's alpha)."""

    id: str
    face: str
    rgb: SpriteSheet
    normals: SpriteSheet


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """The viewer's heads, the angles of their views in degrees, and which view is the frontal one.

    `of` heads were to be shown; `side` is the side of a view in the dataset, in pixels.
    """

    azimuth: tuple[float, ...]
    elevation: tuple[float, ...]
    front: int
    heads: tuple[ViewerHead, ...]
    of: int
    side: int

    @property
    def ids(self) -> list[str]:
        """The heads' ids, in the order of the viewer."""
        return [head.id for head in self.heads]

    @property
    def cell(self) -> int:
        """Side of a view in the sheets, in pixels."""
        return self.heads[0].rgb.cell

    def for_script(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {
            "azimuth": self.azimuth,
            "elevation": self.elevation,
            "front": self.front,
            "cell": self.cell,
            "columns": self.heads[0].rgb.columns,
            "heads": [{"id": head.id, "rgb": head.rgb.uri, "normals": head.normals.uri} for head in self.heads],
        }


@dataclass(frozen=True, kw_only=True)
class NovelRow:
    """One row of a novel-view figure: what it shows, and a picture a view."""

    label: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class NovelFigure:
    """One held-out head: the views that the model was given, and what it made beside the truth."""

    id: str
    inputs: tuple[tuple[str, Tile], ...]
    angles: tuple[str, ...]
    rows: tuple[NovelRow, ...]
    metrics: tuple[tuple[str, str], ...]


def angle(azimuth_deg: float, elevation_deg: float) -> str:
    """A viewing direction in words: azimuth in (-180, 180], elevation only where it is not level."""
    azimuth = float(_wrapped(azimuth_deg))
    words = _degrees(azimuth) if abs(azimuth) < 179.95 else "180°"
    return words if abs(elevation_deg) < 0.05 else f"{words}, {_degrees(elevation_deg)}"


def in_words(reason: str) -> str:
    """Why a head was dropped, as a person says it."""
    return "a person's review" if reason == REASON else reason.replace("_", " ")


def head_card(card: HeadCard, params: ReportParams) -> Card:
    """A head's pictures side by side in one tile, and its scores as text."""
    tile = None
    if len(card.pictures):
        pictures = resize(cut_out(card.pictures, card.mask), params.picture_resolution)
        count, height, width = pictures.shape[:3]
        alt = f"Head {card.id}: {listed(list(card.captions))}"
        tile = Tile(uri=row_uri(pictures, quality=params.quality), alt=alt, width=count * width, height=height)
    scores = tuple(
        Score(name=name.replace("_", " "), value=f"{value:.3g}", failing=name in card.reasons)
        for name, value in card.scores.items()
    )
    reasons = tuple(in_words(reason) for reason in card.reasons)
    return Card(id=card.id, tile=tile, reasons=reasons, scores=scores)


def drop_groups(data: ReportData, params: ReportParams) -> list[DropGroup]:
    """The first reasons from the most frequent on, each with the given heads that it dropped."""
    counts, anywhere = data.counts.screened_out, data.counts.screen_reasons
    return [
        DropGroup(
            reason=reason,
            count=counts[reason],
            any=anywhere.get(reason, counts[reason]),
            cards=tuple(head_card(card, params) for card in data.dropped if card.reasons[:1] == (reason,)),
        )
        for reason in sorted(counts, key=lambda reason: (-counts[reason], reason))
    ]


def viewer(orbit: Orbit | None, params: ReportParams) -> Viewer | None:
    """Sprite sheets of as many heads as the budget allows; None without a head."""
    if orbit is None or not orbit.heads:
        return None
    front = nearest_view(orbit.azimuth_deg, orbit.elevation_deg, (0.0, 0.0))
    heads: list[ViewerHead] = []
    size = 0
    for head in orbit.heads:
        made = _viewer_head(head, front, params)
        size += len(made.face) + len(made.rgb.uri) + len(made.normals.uri)
        if heads and size > params.viewer_megabytes * 1e6:
            break
        heads.append(made)
    return Viewer(
        azimuth=_rounded(orbit.azimuth_deg),
        elevation=_rounded(orbit.elevation_deg),
        front=front,
        heads=tuple(heads),
        of=len(orbit.heads),
        side=orbit.side,
    )


def novel_figure(views: NovelViews, params: ReportParams) -> NovelFigure:
    """The rows of a novel-view figure, from the left round to the right, with angles and metrics as text."""
    order = np.lexsort([views.elevation_deg, _wrapped(views.azimuth_deg)])
    angles = tuple(angle(views.azimuth_deg[view], views.elevation_deg[view]) for view in order)
    given = [angle(*pair) for pair in zip(views.input_azimuth_deg, views.input_elevation_deg, strict=True)]
    rows = {
        "generated": views.generated_rgb,
        "true": views.true_rgb,
        "generated normals": views.generated_normals,
        "true normals": views.true_normals,
    }
    measured = [(metric_of(name), value) for name, value in views.metrics.items() if value is not None]
    return NovelFigure(
        id=views.id,
        inputs=tuple(zip(given, _tiles(views.input_rgb, f"{views.id}, given view", given, params), strict=True)),
        angles=angles,
        rows=tuple(
            NovelRow(label=label, tiles=_tiles(pictures[order], f"{views.id}, {label}", angles, params))
            for label, pictures in rows.items()
        ),
        metrics=tuple((metric.label, f"{value:.{metric.digits}f}") for metric, value in measured),
    )


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
    """Azimuths in (-180, 180]."""
    return 180 - (180 - np.asarray(azimuth_deg, np.float64)) % 360


def _degrees(angle_deg: float) -> str:
    """With its sign (a true minus), to a tenth of a degree, without trailing zeros; 0 has no sign."""
    rounded = round(float(angle_deg), 1)
    return f"{rounded:+g}°".replace("-", "−") if rounded else "0°"


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
