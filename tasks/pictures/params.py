"""The parameters of a gallery, and their parsing from the command line."""

import math

from pydantic import Field

from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.stage import StageParams


class GalleryParams(StageParams):
    """The views and layout of a contact sheet of heads."""

    azimuths_deg: tuple[float, ...] = Field((25.0,), min_length=1, description="Azimuths of each head, side by side")
    resolution: int = Field(128, ge=16, le=1024, description="Side of each view, in pixels")
    columns: int = Field(8, ge=1, description="Heads per row")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from a range or a list: `0:48` is 0 to 47, `3,5,12` is these three. Raises ConfigError."""
    try:
        first, colon, end = text.partition(":")
        seeds = tuple(range(int(first), int(end))) if colon else tuple(int(seed) for seed in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0:
        raise ConfigError(f"seeds: expected a range FIRST:END or seeds separated by commas, got {text!r}")
    return seeds


def gallery_params(azimuths: str, resolution: int, columns: int) -> GalleryParams:
    """The parameters of a sheet with azimuths as `0,90,180`, in degrees. Raises ConfigError."""
    try:
        azimuths_deg = tuple(float(azimuth) for azimuth in azimuths.split(","))
    except ValueError:
        azimuths_deg = ()
    if not azimuths_deg or not all(math.isfinite(azimuth) for azimuth in azimuths_deg):
        raise ConfigError(f"azimuths: expected degrees separated by commas, as 0,90,180; got {azimuths!r}")
    return GalleryParams(azimuths_deg=azimuths_deg, resolution=resolution, columns=columns)
