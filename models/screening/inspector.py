"""An inspector network from an ONNX file, run by onnxruntime on the previews of a head."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.identity.onnx_sessions import network_errors, open_session
from spinmeround.models.screening.inspection import CHANNELS, SIDE, STRIDE, VIEWS, Inspection
from spinmeround.storage.records import Rendering


class Inspector:
    """An inspector from an ONNX file."""

    def __init__(self, path: Path, providers: tuple[str, ...] | None = None) -> None:
        """Raises ValueError for a file that is missing or not a network of `inspector_network`."""
        self._session, self._path = open_session(path, "inspector", providers), path
        taken, given = self._session.get_inputs(), self._session.get_outputs()
        shapes = [list(each.shape) for each in (*taken, *given)]
        if shapes != [[VIEWS, CHANNELS, SIDE, SIDE], [1], [VIEWS, SIDE // STRIDE, SIDE // STRIDE]]:
            raise ValueError(f"inspector: expected the shapes of an inspector network, got {shapes} in {path}")

    def inspect(self, previews: Rendering, cameras: Cameras, box_warp: float) -> Inspection:
        """What the network finds in the previews. Raises ValueError if they are not a ring of VIEWS from the front."""
        pixels = packed(previews, cameras, box_warp)
        with network_errors(f"inspector {self._path}"):
            log_odds, cells = self._session.run(None, {self._session.get_inputs()[0].name: pixels})
        return Inspection(log_odds=float(log_odds[0]), cells=np.asarray(cells, np.float32))


def packed(previews: Rendering, cameras: Cameras, box_warp: float) -> Float32[np.ndarray, "view 6 64 64"]:
    """The network's input: RGB and mask, 0 to 1; depth beyond the head's centre, in sides of the cube, 0 where there is
    none; and where there is depth.

    Raises:
        ValueError: if the cameras are not a ring of VIEWS around the head that begins at the front.
    """
    angles = np.arange(VIEWS) * (360.0 / VIEWS)
    ring = len(cameras) == VIEWS and np.allclose(cameras.azimuth_deg % 360.0, angles) and not cameras.elevation_deg.any()
    if not ring:
        raise ValueError(
            f"sample.previews: expected {VIEWS} azimuths at elevation 0 for an inspector, got azimuths "
            f"{cameras.azimuth_deg.tolist()} at elevations {sorted(set(cameras.elevation_deg.tolist()))}; "
            "change them, or set score.inspector='none'"
        )
    known = np.isfinite(previews.depth)
    centre = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=1)[:, None, None]
    depth = np.where(known, (previews.depth - centre) / box_warp, 0.0)
    planes = [*(previews.rgb.astype(np.float32) / 255.0).transpose(3, 0, 1, 2), previews.mask / 255.0, depth, known]
    return np.stack([_small(np.asarray(plane, np.float32)) for plane in planes], axis=1)


def _small(plane: Float32[np.ndarray, "view h w"]) -> Float32[np.ndarray, "view 64 64"]:
    """The plane at the network's resolution."""
    if plane.shape[1] == SIDE:
        return plane
    return np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for each in plane])
