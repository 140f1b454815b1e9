"""A contact sheet of what a stage has made: some heads of a run, from their artifacts in the store."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import read_pictures
from spinmeround.tasks.heads.sample_files import load_previews
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side
from spinmeround.tasks.pictures.webp import nearest_view
from spinmeround.tasks.stage import Head

HEADS, SIDE = 8, 96
"""Heads on a sheet, and the side of a view, in pixels."""
AZIMUTHS_DEG = (0.0, 90.0, 180.0, 270.0)

Keys = Mapping[str, Mapping[str, str]]
"""Artifact keys: head id -> stage -> key."""


def stage_sheet(
    store: ArtifactStore,
    stage: str,
    heads: Sequence[Head],
    keys: Keys,
    cameras: Cameras,
    captions: Mapping[str, str],
) -> Image.Image | None:
    """Up to HEADS of these heads, evenly spaced, seen from around, with a caption for each id.

    `cameras` are those of the pictures of a head. None for a stage without pictures, or if no head has any. Raises
    CorruptArtifact as `store.verify`.
    """
    if stage not in ("sample", "screen", *_ARRAYS):
        return None
    made = [head for head in heads if store.has(stage, keys[head.id][stage])]
    chosen = made[:: max(1, -(-len(made) // HEADS))]
    if not chosen:
        return None
    rows = [_row(store, stage, keys[head.id], cameras) for head in chosen]
    title = f"{stage}: {len(chosen)} of {len(made)} {'dropped ' if stage == 'screen' else ''}heads"
    style = SheetStyle(columns=2, cell=len(AZIMUTHS_DEG) * SIDE)
    return contact_sheet(rows, [captions[head.id] for head in chosen], title=title, style=style)


def _row(
    store: ArtifactStore, stage: str, keys: Mapping[str, str], cameras: Cameras
) -> UInt8[np.ndarray, "height row 3"]:
    """Views of one head from around, side by side."""
    if stage in _ARRAYS:
        name = _ARRAYS[stage]
        pictures = read_pictures(store.verify(stage, keys[stage]).path, name)[name]
    else:
        previews = load_previews(store.verify("sample", keys["sample"]).path)
        pictures, cameras = previews.rendering.rgb, previews.cameras
    views = [nearest_view(cameras.azimuth_deg, cameras.elevation_deg, (azimuth, 0.0)) for azimuth in AZIMUTHS_DEG]
    return side_by_side(pictures[views])


_ARRAYS = {"render": "rgb", "normals": "normals"}
"""Pixel arrays of the stages whose artifacts are pictures."""
