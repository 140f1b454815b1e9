"""How far a head lies from a population of heads, fitted without labels.

Each modality of the unwrapped heads (`grid`) gets a subspace: the mean, the directions in which heads vary most,
and the spread of each cell around the subspace. The fit trims: it repeatedly leaves out the heads that fit least, since
a user's own heads contain defects. A cell's deviation is its distance from the subspace in units of that cell's spread,
smoothed over its neighbours, so that one noisy cell counts little and a patch of them counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy import ndimage

from spinmeround.models.screening.frame import REGIONS
from spinmeround.models.screening.grid import AZIMUTHS, MODALITIES, ROWS, Unwrapped, cells_of

DIRECTIONS = {"shape": 30, "solidity": 10, "colour": 30, "roughness": 12}
"""Dimensions of the subspaces, at most a quarter of the number of heads."""

TRIMMED, ROUNDS = 0.2, 6
"""Share of the heads that the fit leaves out, and the number of times that it chooses them."""

FEWEST_HEADS = 60
"""Heads below which no population is fitted."""

FLOOR = {"shape": 0.0015, "solidity": 0.01, "colour": 0.03, "roughness": 0.05}
"""Least spread of a cell, in units of its channel."""

TAIL = 0.1
"""Share of the cells with the largest deviations that a score is the mean of."""

LARGEST = 12.0
"""Deviation at which cells are cut off, so that one of them does not hide the others."""

Deviations = Float64[np.ndarray, "modality row azimuth"]


@dataclass(frozen=True, kw_only=True)
class Subspace:
    """The subspace of one modality: cells are flattened; `spread` is that of the cells, `reach` that of directions."""

    mean: Float32[np.ndarray, " cell"]
    directions: Float32[np.ndarray, "direction cell"]
    reach: Float32[np.ndarray, " direction"]
    spread: Float32[np.ndarray, " cell"]

    def deviation(self, heads: Float[np.ndarray, "head cell"]) -> Float64[np.ndarray, "head cell"]:
        """Distance of each cell from the subspace, in spreads; zero for unknown (NaN) cells.

        A head may lie anywhere within three times the reach of each direction.
        """
        known = np.isfinite(heads)
        centred = np.where(known, heads - self.mean, 0.0).astype(np.float64)
        most = 3.0 * self.reach
        inside = np.clip(centred @ self.directions.T, -most, most) @ self.directions
        return np.where(known, np.abs(centred - inside) / self.spread, 0.0)


@dataclass(frozen=True, kw_only=True)
class Population:
    """One subspace per modality."""

    subspaces: Mapping[str, Subspace]

    def deviations(self, head: Unwrapped) -> Deviations:
        """Deviation of each cell by modality, the largest over its channels, smoothed over its neighbours."""
        found = []
        for name, part in _channels().items():
            cells = self.subspaces[name].deviation(head[part].reshape(1, -1))
            found.append(_smoothed(cells.reshape(-1, ROWS, AZIMUTHS)).max(axis=0))
        return np.stack(found)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as `of_arrays` reads them."""
        return {
            f"{name}.{field.name}": getattr(subspace, field.name)
            for name, subspace in self.subspaces.items()
            for field in fields(Subspace)
        }

    @staticmethod
    def of_arrays(arrays: Mapping[str, np.ndarray]) -> "Population":
        """The population in the arrays of `arrays()`. Raises ValueError for a missing, misshaped or bad array."""
        subspaces = {}
        for name, part in _channels().items():
            cells = (part.stop - part.start) * ROWS * AZIMUTHS
            shapes = {"mean": (cells,), "directions": (-1, cells), "reach": (-1,), "spread": (cells,)}
            read = {field: _checked(arrays, f"{name}.{field}", shape) for field, shape in shapes.items()}
            if len(read["directions"]) != len(read["reach"]) or not (read["spread"] > 0).all():
                raise ValueError(f"{name}: expected as many reaches as directions, and spreads above 0; fit it again")
            subspaces[name] = Subspace(**read)
        return Population(subspaces=subspaces)


def fit_population(heads: Float32[np.ndarray, "head channel row azimuth"]) -> Population:
    """The population of unwrapped heads, without the share TRIMMED that fits least.

    Raises ValueError for fewer than FEWEST_HEADS.
    """
    if len(heads) < FEWEST_HEADS:
        raise ValueError(f"population: expected at least {FEWEST_HEADS} heads, got {len(heads)}; sample more heads")
    kept = np.arange(len(heads))
    population = _fit(heads)
    for _ in range(ROUNDS):
        distances = np.array([overall(population.deviations(head)) for head in heads])
        kept = np.argsort(distances, kind="stable")[: int(np.ceil((1.0 - TRIMMED) * len(heads)))]
        population = _fit(heads[kept])
    return population


def overall(deviations: Deviations) -> float:
    """Distance of a head from the population."""
    return _tail(deviations.max(axis=0).ravel())


def population_scores(deviations: Deviations) -> dict[str, float]:
    """The distance of a head, and its parts by region and by modality."""
    worst = deviations.max(axis=0)
    return {
        "population": overall(deviations),
        **{f"population_{name}": _tail(worst[cells_of(name)]) for name in REGIONS},
        **{f"population_{name}": _tail(cells.ravel()) for name, cells in zip(MODALITIES, deviations, strict=True)},
    }


def _fit(heads: Float32[np.ndarray, "head channel row azimuth"]) -> Population:
    return Population(
        subspaces={
            name: _subspace(heads[:, part].reshape(len(heads), -1), DIRECTIONS[name], FLOOR[name])
            for name, part in _channels().items()
        }
    )


def _subspace(heads: Float32[np.ndarray, "head cell"], count: int, floor: float) -> Subspace:
    """Principal directions of the heads; unknown cells are at the mean."""
    known = np.isfinite(heads)
    number = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, heads, 0.0).sum(axis=0, dtype=np.float64) / number
    centred = np.where(known, heads - mean, 0.0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[: min(count, len(heads) // 4)]
    rest = centred - centred @ directions.T @ directions
    freedom = 1.0 - len(directions) / len(heads)
    spread = np.sqrt((rest**2).sum(axis=0) / number / freedom)
    return Subspace(
        mean=mean.astype(np.float32),
        directions=directions.astype(np.float32),
        reach=(sizes[: len(directions)] / np.sqrt(len(heads))).astype(np.float32),
        spread=np.maximum(spread, floor).astype(np.float32),
    )


def _smoothed(cells: Float64[np.ndarray, "channel row azimuth"]) -> Float64[np.ndarray, "channel row azimuth"]:
    """Root mean square over each cell and its neighbours, around the head."""
    squares = np.minimum(cells, LARGEST) ** 2
    along = ndimage.uniform_filter1d(squares, 3, axis=2, mode="wrap")
    around = ndimage.uniform_filter1d(along, 3, axis=1, mode="nearest")
    return np.asarray(np.sqrt(np.maximum(around, 0.0)))  # its running sum may end just below zero


def _tail(values: Float64[np.ndarray, " cell"]) -> float:
    """Mean of the largest share TAIL of the values."""
    count = max(1, round(TAIL * values.size))
    return float(np.sort(values)[-count:].mean())


def _channels() -> dict[str, slice]:
    ends = np.cumsum(list(MODALITIES.values()))
    return {name: slice(int(end) - MODALITIES[name], int(end)) for name, end in zip(MODALITIES, ends, strict=True)}


def _checked(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    if name not in arrays:
        raise ValueError(f"{name}: expected this array, found none; fit the population again")
    found = np.asarray(arrays[name])
    fits = found.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, found.shape, strict=True))
    if not fits or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise ValueError(
            f"{name}: expected finite numbers of shape {shape} (-1: any), found {found.dtype} of shape {found.shape}; "
            "fit the population again"
        )
    return found.astype(np.float32)
