"""Maps that explain scores: where in the previews the evidence lies. `SCORES` names the map of each score."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from spinmeround.models.screening.agreement_scores import disagreement
from spinmeround.models.screening.evidence import Evidence, Map
from spinmeround.models.screening.face_scores import faces_map
from spinmeround.models.screening.inspection_scores import inspection_map
from spinmeround.models.screening.population_scores import population_map
from spinmeround.models.screening.roughness_scores import coarse_relief, fine_colour, fine_relief
from spinmeround.models.screening.symmetry_scores import mirror_distance, odd_colours


@dataclass(frozen=True, kw_only=True)
class MapKind:
    """How a map is made, and the value that is stored as 255."""

    make: Callable[[Evidence], Map | None]
    full: float


def _dents(evidence: Evidence) -> Map:
    return evidence.volume_map(evidence.solid.dents)


def _bumps(evidence: Evidence) -> Map:
    return evidence.volume_map(evidence.solid.bumps)


def _disagreement(evidence: Evidence) -> Map:
    return evidence.once(disagreement)[0]


MAPS: dict[str, MapKind] = {
    "mirror": MapKind(make=mirror_distance, full=0.06),
    "odd_colours": MapKind(make=odd_colours, full=1.0),
    "dents": MapKind(make=_dents, full=0.04),
    "bumps": MapKind(make=_bumps, full=0.04),
    "fine_relief": MapKind(make=fine_relief, full=8.0),
    "coarse_relief": MapKind(make=coarse_relief, full=40.0),
    "fine_colour": MapKind(make=fine_colour, full=40.0),
    "disagreement": MapKind(make=_disagreement, full=0.6),
    "faces": MapKind(make=faces_map, full=1.0),
    "population": MapKind(make=population_map, full=12.0),
    "inspection": MapKind(make=inspection_map, full=1.0),
}
"""All maps, by name."""


def all_maps(evidence: Evidence) -> dict[str, UInt8[np.ndarray, "view height width"]]:
    """The maps of a head as bytes: 0 where nothing is odd or known, 255 at or above the `full` value of the map."""
    found = {}
    for name, kind in MAPS.items():
        if (values := evidence.once(kind.make)) is not None:
            scaled = np.clip(np.nan_to_num(values, nan=0.0) * (255.0 / kind.full), 0.0, 255.0)
            found[name] = scaled.round().astype(np.uint8)
    return found
