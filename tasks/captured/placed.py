"""A photographed head in the frame of datasets, found by landmarks, and its cameras as a dataset has them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.camera_checks import check_cameras
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.pixel_camera import Similarity
from spinmeround.models.geometry.triangulation import triangulate
from spinmeround.models.identity.faces import FaceFinder
from spinmeround.models.identity.head_frame import head_frame
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.captured.params import CaptureParams
from spinmeround.tasks.captured.scene import CapturedHead, read_picture

_TOLERANCE = 0.05
"""Largest distance of a landmark from its place by all views, in sides of the face's box."""

_GIVEN = Similarity(scale=1.0, rotation=np.eye(3), translation=np.zeros(3))


@dataclass(frozen=True, kw_only=True)
class PlacedHead:
    """A head whose views have cameras in the frame of datasets, those of square pictures around the head.

    `landmarks` are in this frame, `similarity` moves the capture's frame there.
    """

    head: CapturedHead
    cameras: Cameras
    landmarks: Float64[np.ndarray, "5 3"]
    similarity: Similarity

    def chosen(self, views: list[int]) -> "PlacedHead":
        """The head with these views alone."""
        return PlacedHead(
            head=self.head.chosen(views),
            cameras=self.cameras[views],
            landmarks=self.landmarks,
            similarity=self.similarity,
        )


def place_head(head: CapturedHead, finder: FaceFinder, params: CaptureParams) -> PlacedHead:
    """Find the frame of a head; views that do not show its centre are left out.

    Raises ConfigError or ValueError for pictures that can't be read, a face that is not found in two views, and
    cameras that can't be of a head.
    """
    landmarks = find_landmarks(head, finder)
    similarity = head_frame(landmarks) if params.frame == "landmarks" else _GIVEN
    moved = [view.camera.moved(similarity) for view in head.views]
    crops = [camera.head_crop() for camera in moved]
    shown = [view for view, crop in enumerate(crops) if crop is not None]
    if not shown:
        raise ValueError("cameras: expected pictures that show the head's centre, found none; check the calibration")
    cameras = _cameras(
        np.stack([moved[view].cam2world for view in shown]),
        np.stack([crop for crop in crops if crop is not None]),
    )
    check_cameras("cameras", cameras)
    return PlacedHead(
        head=head.chosen(shown), cameras=cameras, landmarks=similarity.points(landmarks), similarity=similarity
    )


def find_landmarks(head: CapturedHead, finder: FaceFinder) -> Float64[np.ndarray, "5 3"]:
    """The five landmarks in the frame of the capture, from all pictures in which `finder` finds a face."""
    origins = np.stack([view.camera.cam2world[:3, 3] for view in head.views])
    directions, tolerance = np.full((len(head.views), 5, 3), np.nan), np.ones(len(head.views))
    for number, view in enumerate(head.views):
        faces = finder.find(read_picture(view).rgb)
        if not faces:
            continue
        left, top, right, bottom = faces[0].box.astype(np.float64)
        directions[number] = view.camera.directions(faces[0].landmarks.astype(np.float64))
        tolerance[number] = _TOLERANCE * max(right - left, bottom - top) / view.camera.matrix[0, 0]
    seen = int(np.isfinite(directions).all(axis=(1, 2)).sum())
    if seen < 2:
        raise ConfigError(f"expected a face in two pictures or more, the detector finds it in {seen} of {len(origins)}")
    return triangulate(origins, directions, tolerance)[0]


def spread_views(cameras: Cameras, count: int) -> list[int]:
    """So many views, by azimuth: the most frontal, then each time the one farthest in angle from all before."""
    positions = cameras.cam2world[:, :3, 3].astype(np.float64)
    directions = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    found = [int(directions[:, 2].argmax())]
    while len(found) < count:
        nearest = (directions @ directions[found].T).max(axis=1)
        nearest[found] = np.inf
        found.append(int(nearest.argmin()))
    return sorted(found, key=lambda view: (float(cameras.azimuth_deg[view]), view))


def mean_angles(heads: Sequence[PlacedHead]) -> tuple[Float64[np.ndarray, " view"], Float64[np.ndarray, " view"]]:
    """Azimuth and elevation in degrees of each view, of the mean direction over heads with equally many views."""
    positions = np.stack([head.cameras.cam2world[:, :3, 3].astype(np.float64) for head in heads])
    return _angles((positions / np.linalg.norm(positions, axis=-1, keepdims=True)).mean(axis=0))


def _cameras(cam2world: Float64[np.ndarray, "view 4 4"], intrinsics: Float64[np.ndarray, "view 3 3"]) -> Cameras:
    azimuth, elevation = _angles(cam2world[:, :3, 3])
    return Cameras(
        cam2world=cam2world.astype(np.float32),
        intrinsics=intrinsics.astype(np.float32),
        azimuth_deg=azimuth.astype(np.float32),
        elevation_deg=elevation.astype(np.float32),
    )


def _angles(
    positions: Float64[np.ndarray, "view 3"],
) -> tuple[Float64[np.ndarray, " view"], Float64[np.ndarray, " view"]]:
    x, y, z = positions.T
    return np.degrees(np.arctan2(x, z)), np.degrees(np.arctan2(y, np.hypot(x, z)))
