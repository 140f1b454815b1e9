"""The distribution of a dataset's views over azimuth and elevation, as numbers and as an inline SVG drawing.

A dot of the drawing is a direction; its area grows with the number of views there. Hatched are the parts of the sphere
that are further than `NEAR_DEG` from every view, where a model learns from no picture.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from spinmeround.models.metrics.definitions import signed_text
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.pictures.webp import directions
from spinmeround.tasks.report.curves import Tick
from spinmeround.tasks.report.data import Coverage, Sector

NEAR_DEG = 30.0
"""A direction that is further from every view is a gap."""
CELL_DEG = 5
"""Side of a cell of the grid of gaps."""
PLACE_DEG = 2.0
"""Views within a square of this side are one place."""
SECTORS = (("front", 0.0, 45.0), ("sides", 45.0, 135.0), ("back", 135.0, 180.0))
"""Ranges of |azimuth| in degrees; an end belongs to the range before."""
WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 44, WIDTH - 12, 10, HEIGHT - 46
SMALLEST, LARGEST = 2.5, 8.0
"""Diameters of dots."""
SIZES = 5


@dataclass(frozen=True, kw_only=True)
class CoverageDrawing:
    """Dots by their diameter, the outline and the hatching of the gaps, and the axes."""

    dots: tuple[tuple[float, str], ...]
    gaps: str
    hatching: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    summary: str
    warning: str


def read_coverage(dataset: HeadDataset) -> Coverage:
    """The directions of all views of a dataset; only cameras are read."""
    found: dict[tuple[int, int], np.ndarray] = {}
    sectors = np.zeros((2, len(SECTORS)), np.int64)
    for subject in range(len(dataset)):
        cameras = dataset.cameras(subject)
        azimuth, elevation = _wrapped(cameras["azimuth_deg"]), np.asarray(cameras["elevation_deg"], np.float64)
        inside = [_in_sector(azimuth, *limits) for _, *limits in SECTORS]
        sectors += [[each.sum() for each in inside], [not each.any() for each in inside]]
        for place in zip(azimuth, elevation, strict=True):
            cell = (round(place[0] / PLACE_DEG), round(place[1] / PLACE_DEG))
            found[cell] = found.get(cell, 0.0) + np.array([*place, 1.0])
    sums = np.array(list(found.values()))
    azimuth, elevation = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]
    gaps, near_share = find_gaps(azimuth, elevation)
    return Coverage(
        heads=len(dataset),
        azimuth_deg=azimuth,
        elevation_deg=elevation,
        number=sums[:, 2].astype(np.int64),
        gaps=gaps,
        near_share=near_share,
        sectors=tuple(
            Sector(label=label, views=int(views), heads_without=int(without))
            for (label, *_), views, without in zip(SECTORS, *sectors, strict=True)
        ),
    )


def find_gaps(
    azimuth_deg: Float[np.ndarray, " place"], elevation_deg: Float[np.ndarray, " place"]
) -> tuple[Bool[np.ndarray, "row column"], float]:
    """The cells whose centres are further than `NEAR_DEG` from every place, and the share of the area of the others."""
    rows, columns = np.arange(-90, 90, CELL_DEG) + CELL_DEG / 2, np.arange(-180, 180, CELL_DEG) + CELL_DEG / 2
    across, up = np.meshgrid(columns, rows)
    centres = directions(across.ravel(), up.ravel()).reshape(*across.shape, 3)  # row column 3
    closest = np.full(centres.shape[:2], -1.0)
    places = directions(azimuth_deg, elevation_deg)
    for start in range(0, len(places), 256):
        closest = np.maximum(closest, (centres @ places[start : start + 256].T).max(-1))
    gaps = closest < np.cos(np.radians(NEAR_DEG))
    area = np.repeat(np.cos(np.radians(rows))[:, None], len(columns), axis=1)
    return gaps, float(area[~gaps].sum() / area.sum())


def coverage_drawing(coverage: Coverage) -> CoverageDrawing:
    """The drawing of a dataset's views."""
    return CoverageDrawing(
        dots=_dots(coverage),
        gaps="".join(_runs(coverage.gaps)),
        hatching="".join(
            f"M{_x(column * CELL_DEG - 180):.1f} {_y(row * CELL_DEG - 90):.1f}"
            f"L{_x((column + 1) * CELL_DEG - 180):.1f} {_y((row + 1) * CELL_DEG - 90):.1f}"
            for row, column in np.argwhere(coverage.gaps)
        ),
        x_ticks=tuple(Tick(at=_x(at), label=_degrees(at)) for at in (-180, -90, 0, 90, 180)),
        y_ticks=tuple(Tick(at=_y(at), label=_degrees(at)) for at in (-90, -45, 0, 45, 90)),
        summary=_summary(coverage),
        warning=_warning(coverage),
    )


def _summary(coverage: Coverage) -> str:
    views, share = int(coverage.number.sum()), round(100 * coverage.near_share)
    return (
        f"{views:,} views of {coverage.heads:,} heads. {share}% of the sphere is within {NEAR_DEG:.0f}° of a view; "
        "the rest is hatched."
    )


def _warning(coverage: Coverage) -> str:
    """What the sectors lack, as a sentence; empty if every head has views in all of them."""
    sentences = []
    for sector, (label, low, high) in zip(coverage.sectors, SECTORS, strict=True):
        where = f"of the {label} (azimuths {low:.0f}° to {high:.0f}° on either side)"
        if sector.heads_without == coverage.heads:
            sentences.append(f"no head has a view {where}")
        elif sector.heads_without:
            has = "has" if sector.heads_without == 1 else "have"
            sentences.append(f"{sector.heads_without:,} of {coverage.heads:,} heads {has} no view {where}")
    text = "; ".join(sentences)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _dots(coverage: Coverage) -> tuple[tuple[float, str], ...]:
    """Paths of dots by diameter, the small ones last, so that none is covered. All are small if numbers are equal."""
    share = coverage.number / coverage.number.max()
    even = coverage.number.min() == coverage.number.max()
    size = np.zeros(len(share), int) if even else np.rint(np.sqrt(share) * (SIZES - 1)).astype(int)
    paths = []
    for step in sorted(set(size.tolist()), reverse=True):
        chosen = size == step
        diameter = 4.0 if even else SMALLEST + (LARGEST - SMALLEST) * step / (SIZES - 1)
        places = zip(coverage.azimuth_deg[chosen], coverage.elevation_deg[chosen], strict=True)
        paths.append((diameter, " ".join(f"M{_x(a):.1f} {_y(e):.1f}h0" for a, e in places)))
    return tuple(paths)


def _runs(gaps: Bool[np.ndarray, "row column"]) -> list[str]:
    """Rectangles over the gaps, one for each run of columns in a row."""
    found = []
    for row, cells in enumerate(gaps):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells.astype(int), [0]])))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            left, right = _x(first * CELL_DEG - 180), _x(last * CELL_DEG - 180)
            top, bottom = _y((row + 1) * CELL_DEG - 90), _y(row * CELL_DEG - 90)
            found.append(f"M{left:.1f} {top:.1f}H{right:.1f}V{bottom:.1f}H{left:.1f}Z")
    return found


def _in_sector(azimuth_deg: Float[np.ndarray, " view"], low: float, high: float) -> Bool[np.ndarray, " view"]:
    turned = np.abs(azimuth_deg)
    return np.asarray((turned > low if low else turned >= 0) & (turned <= high))


def _wrapped(azimuth_deg: Float[np.ndarray, " view"]) -> Float[np.ndarray, " view"]:
    """Azimuths from -180 up to 180."""
    return np.asarray(np.mod(np.asarray(azimuth_deg, np.float64) + 180.0, 360.0) - 180.0)


def _degrees(angle_deg: float) -> str:
    return f"{signed_text(f'{angle_deg:+.0f}')}°" if angle_deg else "0°"


def _x(azimuth_deg: float) -> float:
    return float(LEFT + (azimuth_deg + 180.0) / 360.0 * (RIGHT - LEFT))


def _y(elevation_deg: float) -> float:
    return float(BOTTOM - (elevation_deg + 90.0) / 180.0 * (BOTTOM - TOP))
