"""Contact sheets of a generator: heads by seed, interpolations between two heads, and the known defects.

Sheets of seeds work with any generator, strips with one that has `interpolate`, sheets of defects with the procedural
one. Each cell shows one head at the requested azimuths and elevation 0, side by side.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural.defects import KINDS
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.protocol import HeadGenerator, InterpolatingGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Identity
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side
from spinmeround.tasks.pictures.params import GalleryParams

STRENGTHS = (0.25, 0.5, 1.0)
"""Strengths of each defect on a sheet of defects."""


def seeds_sheet(generator: HeadGenerator, seeds: Sequence[int], params: GalleryParams) -> Image.Image:
    """A sheet of the heads of these seeds."""
    heads = ((f"{seed}", generator, generator.sample(seed)) for seed in seeds)
    return _sheet(heads, params, f"{generator.name}: seeds {seeds[0]} to {seeds[-1]}")


def strip_sheet(generator: HeadGenerator, ends: tuple[int, int], steps: int, params: GalleryParams) -> Image.Image:
    """A row of `steps` heads that interpolates between the heads of two seeds, both included.

    Raises:
        ConfigError: the generator has no `interpolate`, a seed is negative, or there are fewer than two steps.
    """
    heads = zip(np.linspace(0.0, 1.0, steps), interpolated_heads(generator, ends, steps), strict=True)
    style = params.model_copy(update={"columns": steps})
    cells = ((f"{weight:.3g}", generator, head) for weight, head in heads)
    return _sheet(cells, style, f"{generator.name}: from seed {ends[0]} to seed {ends[1]}")


def interpolated_heads(generator: HeadGenerator, ends: tuple[int, int], steps: int) -> list[Identity]:
    """The identities of a strip. Raises ConfigError as `strip_sheet`."""
    if not isinstance(generator, InterpolatingGenerator):
        raise ConfigError(f"strip: expected a generator with `interpolate`, but {generator.name!r} has none")
    if min(ends) < 0:
        raise ConfigError(f"strip: expected two seeds of 0 or more, got {ends[0]} and {ends[1]}")
    if steps < 2:
        raise ConfigError(f"steps: expected 2 or more, got {steps}")
    start, end = (generator.sample(seed) for seed in ends)
    return [generator.interpolate(start, end, float(weight)) for weight in np.linspace(0.0, 1.0, steps)]


def defects_sheet(generator: HeadGenerator, seed: int, params: GalleryParams) -> Image.Image:
    """A sheet of one head with every kind of defect, at each of STRENGTHS.

    Raises:
        ConfigError: the generator is not the procedural one.
    """
    if not isinstance(generator, ProceduralGenerator):
        raise ConfigError(f"defects: expected the procedural generator, got {generator.name!r}")
    cells = []
    for kind in KINDS:
        for strength in STRENGTHS:
            options = {"defect_share": 1.0, "defect_kinds": (kind,), "defect_strengths": (strength, strength)}
            defective = ProceduralGenerator(generator.options.model_copy(update=options))
            cells.append((f"{kind}\n{strength}", defective, defective.sample(seed)))
    return _sheet(cells, params, f"{generator.name}: defects of seed {seed}")


def _sheet(heads: Iterable[tuple[str, HeadGenerator, Identity]], params: GalleryParams, title: str) -> Image.Image:
    cameras = orbit(params.azimuths_deg, [0.0] * len(params.azimuths_deg))
    captions, cells = [], []
    for caption, generator, identity in heads:
        captions.append(caption)
        cells.append(side_by_side(generator.render(identity, cameras, params.resolution).rgb))
    cell = params.resolution * len(params.azimuths_deg)
    return contact_sheet(cells, captions, title=title, style=SheetStyle(columns=params.columns, cell=cell, gap=6))
