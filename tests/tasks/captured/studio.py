"""Folders of captured heads that tests render themselves: a ball with coloured dots at known points, in any layout.

Cameras and dots are projected by OpenCV, and folders are written by each layout's own conventions; nothing of the
importer is used. The detector finds the dots of the landmarks by their colours.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from spinmeround.models.identity.faces import DetectedFace
from spinmeround.models.identity.head_frame import MEAN_LANDMARKS

EXTRA = np.array([[0.1, 0.12, 0.2], [-0.15, 0.05, 0.17], [0.02, 0.2, 0.15]])
"""Known points besides the landmarks, in the frame of datasets."""
POINTS = np.concatenate([MEAN_LANDMARKS, EXTRA])
COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [0, 255, 255], [0, 0, 0], [140, 0, 255]]
)
BALL, RADIUS = np.array([0.0, 0.0, 0.0]), 0.27
SKIN = (150, 150, 150)
ROTATION = cv2.Rodrigues(np.array([0.9, -0.7, 1.3]))[0]


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A capture: cameras on an orbit in the frame of datasets, in a world that is turned, moved and of another unit."""

    size: tuple[int, int]
    focal: float
    azimuths: tuple[float, ...] = (-80.0, -40.0, -10.0, 15.0, 45.0, 85.0)
    unit: float = 0.25
    distortion: tuple[float, ...] = ()
    offset: tuple[float, float] = (6.0, -9.0)
    shift: np.ndarray = field(default_factory=lambda: np.array([0.3, 1.2, -0.4]))

    @property
    def matrix(self) -> np.ndarray:
        """Intrinsics in pixels, in OpenCV's convention."""
        (width, height), (dx, dy) = self.size, self.offset
        return np.array([[self.focal, 0, width / 2 + dx], [0, self.focal, height / 2 + dy], [0, 0, 1.0]])

    def world(self, points: np.ndarray) -> np.ndarray:
        """Points of the frame of datasets in the capture's world."""
        return self.unit * (points @ ROTATION.T) + self.shift * self.unit

    def world2cam(self, view: int) -> np.ndarray:
        """World to camera, 4x4, OpenCV axes; cameras look beside the head's centre."""
        azimuth = np.radians(self.azimuths[view])
        place = 2.7 * np.array([np.sin(azimuth), 0.1 * np.cos(3 * azimuth), np.cos(azimuth)])
        forward = np.array([0.03, 0.02, 0.0]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        axes = np.stack([right, np.cross(forward, right), forward])  # rows: x, y, z of the camera
        matrix = np.eye(4)
        matrix[:3, :3] = axes @ ROTATION.T
        matrix[:3, 3] = -matrix[:3, :3] @ self.world(place)
        return matrix

    def project(self, view: int, points: np.ndarray) -> np.ndarray:
        """Places of points of the frame of datasets in the picture, by OpenCV."""
        pose = self.world2cam(view)
        lens = np.array(self.distortion) if self.distortion else None
        found, _ = cv2.projectPoints(self.world(points), cv2.Rodrigues(pose[:3, :3])[0], pose[:3, 3], self.matrix, lens)
        return found[:, 0]

    def faces_camera(self, view: int) -> bool:
        """Whether the camera sees the face."""
        return abs(self.azimuths[view]) < 90

    def render(self, view: int) -> tuple[np.ndarray, np.ndarray]:
        """RGB on a dark background, and the mask of the ball."""
        width, height = self.size
        sphere = np.random.default_rng(0).normal(size=(4000, 3))
        sphere = BALL + RADIUS * sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        outline = cv2.convexHull(self.project(view, sphere).astype(np.float32))
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, np.rint(outline).astype(np.int32), 255)
        picture = np.full((height, width, 3), (190, 200, 210), np.uint8)
        picture[mask > 0] = SKIN
        for place, colour in zip(self.project(view, POINTS), COLOURS, strict=True) if self.faces_camera(view) else ():
            centre = tuple(int(value) for value in np.rint(place * 16))
            cv2.circle(picture, centre, self.dot * 16, tuple(map(int, colour)), -1, cv2.LINE_AA, 4)
        return picture, mask

    @property
    def dot(self) -> int:
        """Radius of a dot in pixels."""
        return max(3, round(self.focal / 220))

    def normals(self, view: int) -> np.ndarray:
        """Encoded normals of the ball in the capture's world, of a lens without distortion; 128 beside it."""
        width, height = self.size
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        pose, rays = (
            np.linalg.inv(self.world2cam(view)),
            np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(self.matrix).T,
        )
        rays = rays @ pose[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        start = pose[:3, 3] - self.world(BALL)
        b, c = rays @ start, start @ start - (RADIUS * self.unit) ** 2
        root = b * b - c
        point = start + (-b - np.sqrt(np.maximum(root, 0)))[..., None] * rays
        normal = point / np.linalg.norm(point, axis=-1, keepdims=True)
        return np.where(root[..., None] > 0, np.rint((normal + 1) / 2 * 255), 128).astype(np.uint8)


def dots(picture: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Centres of dots by colour, (x, y) in OpenCV's convention; NaN for those that are not there."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    found = []
    for colour in colours:
        distance = np.linalg.norm(picture.astype(float) - colour, axis=-1)
        weight = np.clip(1 - distance / np.linalg.norm(colour - np.array(SKIN)), 0, None)  # the share of a blend
        if weight.max() < 0.5:
            found.append((np.nan, np.nan))
            continue
        blurred = cv2.GaussianBlur(weight, (0, 0), len(picture) / 100)
        row, column = np.unravel_index(blurred.argmax(), weight.shape)
        weight = weight * (np.hypot(rows - row, columns - column) < len(picture) / 25)
        found.append(((columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()))
    return np.array(found)


class DotFinder:
    """A detector of the landmark dots. `wrong` is how many faces, from the first on, it finds in the wrong place."""

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong

    def find(self, image: np.ndarray) -> list[DetectedFace]:
        places = dots(image, COLOURS[:5])
        if not np.isfinite(places).all():
            return []
        size = float(np.ptp(places, axis=0).max())
        if self.wrong > 0:
            self.wrong -= 1
            places = places[::-1] + size / 2
        low, high = places.min(axis=0) - size / 2, places.max(axis=0) + size / 2
        box = np.concatenate([low, high]).astype(np.float32)
        return [DetectedFace(box=box, score=1.0, landmarks=places.astype(np.float32))]


def save(path: Path, picture: np.ndarray) -> None:
    """Write a picture; JPEG without loss of colour resolution."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 97, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(picture).save(path, **options)


def write_nerfstudio(folder: Path, rig: Rig, *, masks: bool = True, normals: bool = True) -> None:
    """A transforms.json: OpenGL cameras, pixels counted from the corner of the first pixel."""
    frames = []
    for view in range(len(rig.azimuths)):
        picture, mask = rig.render(view)
        save(folder / f"images/{view}.png", picture)
        frame = {"file_path": f"images/{view}.png"}
        if masks:
            save(folder / f"masks/{view}.png", mask)
            frame["mask_path"] = f"masks/{view}.png"
        if normals:
            save(folder / f"normals/{view}.png", rig.normals(view))
            frame["normals_file_path"] = f"normals/{view}.png"
        pose = np.linalg.inv(rig.world2cam(view)) @ np.diag([1.0, -1, -1, 1])
        frames.append({**frame, "transform_matrix": pose.tolist()})
    matrix, (width, height) = rig.matrix, rig.size
    lens = {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2] + 0.5, "cy": matrix[1, 2] + 0.5}
    coefficients = dict(zip(("k1", "k2", "p1", "p2", "k3"), rig.distortion, strict=False))
    document = {**lens, **coefficients, "w": width, "h": height, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(document))


def write_nersemble(participant: Path, rig: Rig, *, version: str) -> None:
    """A participant of NeRSemble; `rig` is a quarter of the calibrated size of 2200 x 3208."""
    full = rig.matrix.copy()
    full[:2, 2] += 0.5
    full[:2] *= 4
    full[:2, 2] -= 0.5
    serials = [f"2222000{36 + view}" for view in range(len(rig.azimuths))]
    calibration = {
        "world_2_cam": {serial: rig.world2cam(view).tolist() for view, serial in enumerate(serials)},
        "intrinsics": full.tolist(),
    }
    sequence = participant / "sequences" / "EXP-1-head"
    path = participant / ("camera_params.json" if version == "1" else "calibration/camera_params.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(calibration))
    for view, serial in enumerate(serials):
        picture, mask = rig.render(view)
        if version == "1":
            save(sequence / "frame_00002/images-2x" / f"cam_{serial}.png", picture)
            save(sequence / "frame_00002/alpha_map" / f"cam_{serial}.png", mask)
        elif version == "frames":
            save(sequence / "images" / f"cam_{serial}" / "frame_00002.jpg", picture)
            save(sequence / "alpha_maps" / f"cam_{serial}" / "frame_00002.png", mask)
        else:
            _video(sequence / "images" / f"cam_{serial}.mp4", picture, rig.size)
            _video(sequence / "alpha_maps" / f"cam_{serial}.mp4", np.stack([mask] * 3, -1), rig.size)


def _video(path: Path, picture: np.ndarray, size: tuple[int, int]) -> None:
    """A video that shows the picture at the timestep 2, after two black frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 24, size)
    for frame in (np.zeros_like(picture), np.zeros_like(picture), picture):
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def write_facescape(subject: Path, rig: Rig, invalid: tuple[int, ...] = ()) -> None:
    """A subject of FaceScape; the poses of `invalid` views are wrong, as FaceScape warns."""
    folder, params = subject / "1_neutral", {}
    for view in range(len(rig.azimuths)):
        save(folder / f"{view}.jpg", rig.render(view)[0])
        pose = rig.world2cam((view + 1) % len(rig.azimuths) if view in invalid else view)
        values = {
            "K": rig.matrix.tolist(),
            "Rt": pose[:3].tolist(),
            "distortion": list(rig.distortion),
            "width": rig.size[0],
            "height": rig.size[1],
            "matches": 1000,
            "valid": view not in invalid,
            "sn": str(view),
            "ori": f"{view}.JPG",
        }
        params |= {f"{view}_{name}": value for name, value in values.items()}
    (folder / "params.json").write_text(json.dumps(params))
