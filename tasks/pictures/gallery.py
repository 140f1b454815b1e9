"""What does a generator make? Contact sheets of its heads, of the way between two of them, and of its defects.

Any generator serves for a sheet of seeds; a strip asks for `interpolate`, a sheet of defects for the
procedural one. Each cell shows one head from the asked azimuths at elevation 0, side by side.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image
from pydantic import Field

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural.generator import ProceduralGenerator
from spinmeround.panohead_bridge.procedural.options import DEFECT_KINDS
from spinmeround.panohead_bridge.protocol import HeadGenerator, InterpolatingGenerator
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Identity
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side
from spinmeround.tasks.stage import StageParams

STRENGTHS = (0.25, 0.5, 1.0)


class GalleryParams(StageParams):
    """How the heads of a sheet are shown."""

    azimuths_deg: tuple[float, ...] = Field((25.0,), min_length=1, description="Views of each head, side by side")
    resolution: int = Field(128, ge=16, le=1024, description="Side of each view, in pixels")
    columns: int = Field(8, ge=1, description="Heads in a row")


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0:48` is the seeds 0 to 47; `3,5,12` those three. Raises ConfigError."""
    try:
        first, colon, last = text.partition(":")
        seeds = tuple(range(int(first), int(last))) if colon else tuple(int(seed) for seed in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise ConfigError(f"seeds: expected FIRST:END, or seeds with commas, of at least one seed; got {text!r}")
    return seeds


def gallery_params(azimuths: str, resolution: int, columns: int) -> GalleryParams:
    """The parameters of a sheet whose azimuths are given as `0,90,180`; raises ConfigError."""
    try:
        degrees = tuple(float(azimuth) for azimuth in azimuths.split(","))
    except ValueError:
        degrees = ()
    if not degrees or not np.isfinite(degrees).all():
        raise ConfigError(f"azimuths: expected degrees with commas, as 0,90,180; got {azimuths!r}")
    return GalleryParams(azimuths_deg=degrees, resolution=resolution, columns=columns)


def seeds_sheet(generator: HeadGenerator, seeds: Sequence[int], params: GalleryParams) -> Image.Image:
    """The heads of these seeds."""
    heads = ((f"{seed}", generator, generator.sample(seed)) for seed in seeds)
    return _sheet(heads, params, f"{generator.name}: seeds {seeds[0]} to {seeds[-1]}")


def strip_sheet(generator: HeadGenerator, ends: tuple[int, int], steps: int, params: GalleryParams) -> Image.Image:
    """The way from one seed's head to another's, in equal steps, ends included.

    Raises:
        ConfigError: the generator can't interpolate, a seed is negative, or there are fewer than two steps.
    """
    heads = zip(np.linspace(0.0, 1.0, steps), between(generator, ends, steps), strict=True)
    style = params.model_copy(update={"columns": steps})
    cells = ((f"{share:.3g}", generator, head) for share, head in heads)
    return _sheet(cells, style, f"{generator.name}: from seed {ends[0]} to seed {ends[1]}")


def between(generator: HeadGenerator, ends: tuple[int, int], steps: int) -> list[Identity]:
    """The identities of a strip; raises ConfigError as `strip_sheet` does."""
    if not isinstance(generator, InterpolatingGenerator):
        raise ConfigError(f"strip: expected a generator with `interpolate`, but {generator.name!r} has none")
    if min(ends) < 0:
        raise ConfigError(f"strip: expected two seeds of 0 or more, got {ends[0]} and {ends[1]}")
    if steps < 2:
        raise ConfigError(f"steps: expected 2 or more, got {steps}")
    start, end = (generator.sample(seed) for seed in ends)
    return [generator.interpolate(start, end, float(share)) for share in np.linspace(0.0, 1.0, steps)]


def defects_sheet(generator: HeadGenerator, seed: int, params: GalleryParams) -> Image.Image:
    """One head with every kind of defect, at each of STRENGTHS.

    Raises:
        ConfigError: the generator is not the procedural one.
    """
    if not isinstance(generator, ProceduralGenerator):
        raise ConfigError(f"defects: expected the procedural one, whose defects are known; got {generator.name!r}")
    cells = []
    for kind in DEFECT_KINDS:
        for strength in STRENGTHS:
            chosen = {"defect_share": 1.0, "defect_kinds": (kind,), "defect_strengths": (strength, strength)}
            broken = ProceduralGenerator(generator.options.model_copy(update=chosen))
            cells.append((f"{kind}\n{strength}", broken, broken.sample(seed)))
    return _sheet(cells, params, f"{generator.name}: defects of seed {seed}")


def _sheet(heads: Iterable[tuple[str, HeadGenerator, Identity]], params: GalleryParams, title: str) -> Image.Image:
    cameras = orbit(params.azimuths_deg, [0.0] * len(params.azimuths_deg))
    captions, cells = [], []
    for caption, generator, identity in heads:
        captions.append(caption)
        cells.append(side_by_side(generator.render(identity, cameras, params.resolution).rgb))
    cell = params.resolution * len(params.azimuths_deg)
    return contact_sheet(cells, captions, title=title, style=SheetStyle(columns=params.columns, cell=cell, gap=6))
