"""Checks the arrays of one head against the schema and each other. Each check yields (array, problem).

Where the mask is 0, RGB is white and normals are (128, 128, 128); elsewhere normals have unit length within the
precision of bytes. Heads that the dataset declares to be without normals have (128, 128, 128) everywhere. Cameras are
rigid. Embeddings have unit length; the head's is the normalised mean of its frontal views'.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Integer

from spinmeround.storage.dataset.reader import HeadDataset

WHITE_AT_LEAST = 253
"""Alpha below half a step rounds to mask 0, and RGB stays within two steps of white."""
NORMAL_BACKGROUND = 128
NORMAL_TOLERANCE = 0.01
"""Rounding three components to multiples of 2 / 255 changes the length by up to sqrt(3) / 255."""
_ROTATION_TOLERANCE = 1e-4
_LENGTH_TOLERANCE = 1e-3
_VIEWS_AT_ONCE = 16
_SQUARES = ((np.arange(256) / 255 * 2 - 1) ** 2).astype(np.float32)

Finding = tuple[str, str]
Check = Callable[[HeadDataset, int], Iterator[Finding]]


def camera_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """Poses that are not rigid, and impossible intrinsics."""
    cameras = dataset.cameras(subject)
    cam2world = cameras["cam2world"].astype(np.float64)
    rotation = cam2world[:, :3, :3]
    off = np.abs(rotation.transpose(0, 2, 1) @ rotation - np.eye(3)).max(axis=(1, 2))
    rigid = (off < _ROTATION_TOLERANCE) & (np.linalg.det(rotation) > 0)
    rigid &= np.isfinite(cam2world).all(axis=(1, 2)) & (cam2world[:, 3] == (0, 0, 0, 1)).all(axis=1)
    yield from _views("cam2world", ~rigid, "expected rigid transforms")
    intrinsics = cameras["intrinsics"]
    good = np.isfinite(intrinsics).all(axis=(1, 2)) & (intrinsics[:, (0, 1), (0, 1)] > 0).all(axis=1)
    good &= (intrinsics[:, 2] == (0, 0, 1)).all(axis=1)
    yield from _views("intrinsics", ~good, "expected positive focal lengths and the last row (0, 0, 1)")


def identity_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """Embeddings without unit length, or whose normalised mean over the frontal views is not the head's."""
    identity = dataset.identities[subject].astype(np.float64)
    unit = abs(np.linalg.norm(identity) - 1) < _LENGTH_TOLERANCE
    if not unit:
        yield "identity", f"expected unit length, found {np.linalg.norm(identity):.4f}"
    rows = dataset.read_views(subject, range(dataset.views), ["identity_views"])["identity_views"]
    absent = np.isnan(rows).all(axis=1)
    good = absent | (np.abs(np.linalg.norm(rows, axis=1) - 1) < _LENGTH_TOLERANCE)
    yield from _views("identity_views", ~good, "expected unit length, or all NaN")
    frontal = ~absent & _frontal(dataset, subject)
    if unit and good.all() and frontal.any():
        mean = rows[frontal].mean(axis=0, dtype=np.float64)
        off = np.abs(identity - mean / max(float(np.linalg.norm(mean)), 1e-12)).max()
        if not off < _LENGTH_TOLERANCE:
            yield "identity", f"expected the normalised mean of identity_views, found a deviation of {off:.4f}"


def _frontal(dataset: HeadDataset, subject: int) -> Bool[np.ndarray, " view"]:
    """The views whose mean is the identity, by the dataset's parameters; all views if it states none."""
    limits = dataset.attributes.get("parameters", {}).get("embed", {}).get("frontal", {})
    cameras = dataset.cameras(subject)
    azimuth = np.abs((cameras["azimuth_deg"].astype(np.float64) + 180.0) % 360.0 - 180.0)
    near = azimuth <= limits.get("max_azimuth_deg", 180.0) + 1e-3
    return np.asarray(near & (np.abs(cameras["elevation_deg"]) <= limits.get("max_elevation_deg", 90.0) + 1e-3))


def status_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """A head with a status other than complete."""
    if (status := int(dataset.row("status", subject))) != 1:
        yield "status", f"expected 1 (complete), found {status}"


@dataclass
class _Pixels:
    """Numbers of invalid pixels of each view."""

    not_white: list[Integer[np.ndarray, " view"]] = field(default_factory=list)
    not_neutral: list[Integer[np.ndarray, " view"]] = field(default_factory=list)
    not_unit: list[Integer[np.ndarray, " view"]] = field(default_factory=list)


def picture_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """Pixels of RGB and normals that contradict the mask, and normals without unit length."""
    found, has_normals = _Pixels(), dataset.has_normals(subject)
    for start in range(0, dataset.views, _VIEWS_AT_ONCE):
        pictures = dataset.read_views(subject, range(start, min(start + _VIEWS_AT_ONCE, dataset.views)))
        empty, rgb, normals = pictures["mask"] == 0, pictures["rgb"], pictures["normals"]
        length = np.sqrt(_SQUARES[normals].sum(axis=-1))
        not_white = empty & (rgb.min(axis=-1) < WHITE_AT_LEAST)
        not_neutral = (empty | (not has_normals)) & (normals != NORMAL_BACKGROUND).any(axis=-1)
        for wrong, into in ((not_white, found.not_white), (not_neutral, found.not_neutral)):
            into.append(wrong.sum(axis=(1, 2)))
        found.not_unit.append((~empty & has_normals & (np.abs(length - 1) > NORMAL_TOLERANCE)).sum(axis=(1, 2)))
    yield from _pixels("rgb", found.not_white, "expected white where the mask is 0")
    where = "where the mask is 0" if has_normals else "everywhere, as the head is declared to have no normals"
    yield from _pixels("normals", found.not_neutral, f"expected (128, 128, 128) {where}")
    yield from _pixels("normals", found.not_unit, "expected unit length where the mask is not 0")


def _pixels(array: str, counts: list[Integer[np.ndarray, " view"]], what: str) -> Iterator[Finding]:
    wrong = np.concatenate(counts)
    yield from _views(array, wrong > 0, f"{what}, {wrong.sum()} pixels are not")


def _views(array: str, wrong: Bool[np.ndarray, " view"], what: str) -> Iterator[Finding]:
    if wrong.any():
        some = np.flatnonzero(wrong)
        yield array, f"{what} ({len(some)} views, the first is {some[0]})"


_CAMERAS = ("cam2world", "intrinsics", "azimuth", "elevation")

CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (_CAMERAS, camera_problems),
    (("identity", "identity_views", *_CAMERAS), identity_problems),
    (("status",), status_problems),
    (("rgb", "mask", "normals"), picture_problems),
)
"""Each check with the arrays that it reads; a head skips it if one of them is damaged."""
