"""The grid that heads are unwrapped onto, and its regions.

The grid is a cylinder below the eyes and half a sphere above them, in the head's own frame: rows go up, columns are
azimuths from the back over the left side (-x), the face and the right side. Channels of a cell are the distance of the
outermost surface from the axis, the share of the way there that is inside, the log colour of the surface, and the
roughness of surface and colour. Cells that no preview shows are NaN in the channels of pictures.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from spinmeround.models.screening.frame import HeadFrame, Region

AZIMUTHS, LOW_ROWS, HIGH_ROWS = 32, 12, 10
ROWS = LOW_ROWS + HIGH_ROWS

LOWEST = 3.2
"""Depth of the lowest row below the eyes, in distances from eyes to mouth."""

MODALITIES = {"shape": 1, "solidity": 1, "colour": 3, "roughness": 2}
"""Kinds of evidence and their numbers of channels, in order."""

CHANNELS = sum(MODALITIES.values())

Unwrapped = Float32[np.ndarray, "channel row azimuth"]


@dataclass(frozen=True, kw_only=True)
class Rays:
    """Starts on the axis and unit directions of the cells' rays, in the head's frame."""

    starts: Float64[np.ndarray, "row azimuth 3"]
    directions: Float64[np.ndarray, "row azimuth 3"]

    @staticmethod
    def of(frame: HeadFrame) -> "Rays":
        """The rays of a head, whose rows below the eyes follow the length of its face."""
        azimuth = np.radians(-180.0 + (np.arange(AZIMUTHS) + 0.5) * 360.0 / AZIMUTHS)
        low = -LOWEST * frame.face * (1.0 - (np.arange(LOW_ROWS) + 0.5) / LOW_ROWS)
        elevation = np.concatenate([np.zeros(LOW_ROWS), 0.5 * np.pi * (np.arange(HIGH_ROWS) + 0.5) / HIGH_ROWS])
        height = np.concatenate([low, np.zeros(HIGH_ROWS)])
        up, around = np.meshgrid(elevation, azimuth, indexing="ij")
        directions = np.stack([np.cos(up) * np.sin(around), np.sin(up), np.cos(up) * np.cos(around)], axis=-1)
        starts = np.zeros(directions.shape)
        starts[..., 1] = height[:, None]
        return Rays(starts=starts, directions=directions)


def cells_of(name: Region) -> Bool[np.ndarray, "row azimuth"]:
    """The cells of a region."""
    azimuth = np.abs(-180.0 + (np.arange(AZIMUTHS) + 0.5) * 360.0 / AZIMUTHS)[None]
    row = np.arange(ROWS)[:, None]
    neck = row < LOW_ROWS * (1.0 - 1.8 / LOWEST)
    top = row >= LOW_ROWS + 0.4 * HIGH_ROWS
    between = ~neck & ~top
    masks: dict[Region, np.ndarray] = {
        "neck": neck & (azimuth >= 0.0),
        "top": top & (azimuth >= 0.0),
        "face": between & (azimuth < 60.0),
        "sides": between & (azimuth >= 60.0) & (azimuth <= 120.0),
        "back": between & (azimuth > 120.0),
    }
    return masks[name]
