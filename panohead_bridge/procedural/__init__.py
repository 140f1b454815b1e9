"""Analytic heads: signed distance and colour from 64 numbers, with known normals, landmarks and defects."""

from typing import Any

from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.procedural.options import ProceduralOptions

__all__ = ["ProceduralGenerator", "ProceduralOptions", "make"]


def make(**options: Any) -> ProceduralGenerator:
    """The factory that a profile names as `procedural`."""
    return ProceduralGenerator(ProceduralOptions(**options))
