"""A calibrated camera of a picture of any size, as capture rigs have them, before it is one of a dataset's.

Places in the picture are in pixels in OpenCV's convention: x right, y down, (0, 0) is the centre of the first pixel.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from spinmeround.models.geometry.cameras import ViewGrid

EXTENT = ViewGrid().radius / ViewGrid().focal
"""Width of a dataset's picture at the distance of the head's centre, in world units: that of the training."""


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """The map x -> scale * rotation @ x + translation."""

    scale: float
    rotation: Float64[np.ndarray, "3 3"]
    translation: Float64[np.ndarray, "3"]

    def points(self, points: Float64[np.ndarray, "*point 3"]) -> Float64[np.ndarray, "*point 3"]:
        """The images of points."""
        return np.asarray(self.scale * points @ self.rotation.T + self.translation)


@dataclass(frozen=True, kw_only=True)
class PixelCamera:
    """A lens and its pose.

    `size` is (width, height) in pixels. `matrix` are the intrinsics in pixels, in OpenCV's convention. `coefficients`
    are OpenCV's k1, k2, p1, p2, k3, ..., empty for a pinhole. `cam2world` has OpenCV axes.
    """

    size: tuple[int, int]
    matrix: Float64[np.ndarray, "3 3"]
    cam2world: Float64[np.ndarray, "4 4"]
    coefficients: tuple[float, ...] = ()

    def resized(self, size: tuple[int, int]) -> "PixelCamera":
        """The camera of the picture at another size."""
        ratio = np.array([size[0] / self.size[0], size[1] / self.size[1]])
        matrix = self.matrix.copy()
        matrix[:2, 2] += 0.5  # from the corner of the first pixel, which stays in place
        matrix[:2] *= ratio[:, None]
        matrix[:2, 2] -= 0.5
        return replace(self, size=size, matrix=matrix)

    def moved(self, similarity: Similarity) -> "PixelCamera":
        """The camera after a similarity of the world."""
        cam2world = np.eye(4)
        cam2world[:3, :3] = similarity.rotation @ self.cam2world[:3, :3]
        cam2world[:3, 3] = similarity.points(self.cam2world[:3, 3])
        return replace(self, cam2world=cam2world)

    def directions(self, places: Float64[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 3"]:
        """Unit vectors, in the world, of the rays through places in the picture; NaN stays NaN."""
        import cv2

        lens = np.asarray(self.coefficients, np.float64) if self.coefficients else None
        seen = np.isfinite(places).all(axis=1)
        rays = np.full((len(places), 3), np.nan)
        if seen.any():
            flat = cv2.undistortPoints(places[seen][:, None], self.matrix, lens)[:, 0]
            rays[seen] = np.column_stack([flat, np.ones(len(flat))]) @ self.cam2world[:3, :3].T
        return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))

    def head_crop(self) -> Float64[np.ndarray, "3 3"] | None:
        """Intrinsics, in image sides, of a square picture around the world's origin that is `EXTENT` wide there.

        The picture is a part of this one, without a turn of the camera, so its principal point may be off its middle.
        None if this picture does not show the origin.
        """
        centre = -self.cam2world[:3, :3].T @ self.cam2world[:3, 3]
        if centre[2] <= 0:
            return None
        place = (self.matrix @ centre)[:2] / centre[2]
        if not ((place >= -0.5) & (place <= np.array(self.size) - 0.5)).all():
            return None
        focal = float(np.linalg.norm(centre)) / EXTENT
        sides = self.matrix[[0, 1], [0, 1]] / focal  # of the crop in pixels, x and y
        middle = 0.5 + (self.matrix[:2, 2] - place) / sides
        return np.array([[focal, 0.0, middle[0]], [0.0, focal, middle[1]], [0.0, 0.0, 1.0]])
