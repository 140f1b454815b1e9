"""Analytic heads: signed distance and colour from 64 numbers, with known normals, landmarks and defects."""

from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator, ProceduralOptions

__all__ = ["ProceduralGenerator", "ProceduralOptions"]
