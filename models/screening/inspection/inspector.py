"""An inspector network from an ONNX file, run by onnxruntime on the previews of a head."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.onnx_sessions import network_errors, open_session
from spinmeround.models.screening.inspection.findings import Inspection
from spinmeround.storage.errors import ConfigError
from spinmeround.storage.records import Rendering

SIDE, CHANNELS = 64, 8
"""Side of a view and its channels, as the network takes them."""

HIGHEST_DEG = 1.0
"""Largest elevation of a preview that is inspected: the network learns from previews at elevation 0."""


class Inspector:
    """An inspector from an ONNX file."""

    def __init__(self, path: Path, providers: tuple[str, ...] | None = None) -> None:
        """Raises ConfigError for a file that is missing or not an inspector network."""
        self._session, self._path = open_session(path, "inspector", providers), path
        taken, given = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(each.shape[1:]) for each in (*taken, *given)]
        if [len(shape) for shape in shapes] != [3, 0, 2, 2] or shapes[0] != [CHANNELS, SIDE, SIDE]:
            raise ConfigError(
                f"inspector: expected one input (view, {CHANNELS}, {SIDE}, {SIDE}) and outputs (view), "
                f"(view, rows, columns) and (view, rows, columns), got {shapes} after the first axis in {path}"
            )

    def inspect(self, previews: Rendering, cameras: Cameras, box_warp: float) -> Inspection | None:
        """What the network finds in the previews; None unless they are all level."""
        if (np.abs(cameras.elevation_deg) > HIGHEST_DEG).any():
            return None
        pixels = packed(previews, cameras, box_warp)
        with network_errors(f"inspector {self._path}"):
            views, cells, distances = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        return Inspection(views=views, cells=cells, distances=distances)


def packed(previews: Rendering, cameras: Cameras, box_warp: float) -> Float32[np.ndarray, "view 8 64 64"]:
    """The network's input.

    RGB and mask, 0 to 1; depth beyond the cube's centre, in sides of the cube, 0 where there is none; whether there is
    depth; sine and cosine of the azimuth.
    """
    colours = [*(previews.rgb.astype(np.float32) / 255.0).transpose(3, 0, 1, 2), previews.mask / np.float32(255.0)]
    share = _small(np.isfinite(previews.depth).astype(np.float32))
    known = share > 0.5
    depth = np.where(known, _small(relative_depth(previews, cameras, box_warp)) / np.maximum(share, 0.5), 0.0)
    views = np.stack([*(_small(plane) for plane in colours), depth, known], axis=1, dtype=np.float32)
    angle = np.radians(cameras.azimuth_deg.astype(np.float32))[:, None, None, None]
    turned = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    return np.concatenate([views, np.broadcast_to(turned, (len(views), 2, SIDE, SIDE))], axis=1)


def levelled(previews: Rendering, cameras: Cameras) -> tuple[Rendering, Cameras]:
    """The previews at elevation 0, and their cameras."""
    chosen = np.flatnonzero(np.abs(cameras.elevation_deg) <= HIGHEST_DEG)
    parts = Rendering(rgb=previews.rgb[chosen], mask=previews.mask[chosen], depth=previews.depth[chosen])
    return parts, cameras[chosen]


def relative_depth(previews: Rendering, cameras: Cameras, box_warp: float) -> Float32[np.ndarray, "view height width"]:
    """Depth beyond the cube's centre, in sides of the cube; 0 where there is none."""
    centre = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=1)[:, None, None]
    known = np.isfinite(previews.depth)
    return np.asarray(np.where(known, (np.nan_to_num(previews.depth) - centre) / box_warp, 0.0), np.float32)


def _small(plane: Float32[np.ndarray, "view h w"]) -> Float32[np.ndarray, "view 64 64"]:
    """The plane at the network's resolution."""
    if plane.shape[1] == SIDE:
        return plane
    return np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in plane])
