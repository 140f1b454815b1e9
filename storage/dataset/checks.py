"""Do the arrays of one head agree with the schema and with each other? Each check yields (array, what is wrong).

Under mask 0 RGB is white and normals are (128, 128, 128); under a mask normals have unit length, as far as bytes
tell; cameras are rigid; embeddings have unit length, and the head's is the normalised mean of its views'.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Integer

from spinmeround.storage.dataset.reader import HeadDataset

WHITE_AT_LEAST = 253
"""Alpha below half a step rounds to mask 0 and leaves RGB within two steps of white."""
NORMAL_BACKGROUND = 128
NORMAL_TOLERANCE = 0.01
"""Three components that are each rounded to a 255th move the length by up to sqrt(3) / 255."""
_ROTATION_TOLERANCE = 1e-4
_LENGTH_TOLERANCE = 1e-3
_VIEWS_AT_ONCE = 16
_SQUARES = ((np.arange(256) / 255 * 2 - 1) ** 2).astype(np.float32)

Finding = tuple[str, str]
Check = Callable[[HeadDataset, int], Iterator[Finding]]


def camera_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """Poses that are no rotation with a position, and intrinsics that no camera has."""
    cameras = dataset.cameras(subject)
    cam2world = cameras["cam2world"].astype(np.float64)
    rotation = cam2world[:, :3, :3]
    off = np.abs(rotation.transpose(0, 2, 1) @ rotation - np.eye(3)).max(axis=(1, 2))
    rigid = (off < _ROTATION_TOLERANCE) & (np.linalg.det(rotation) > 0)
    rigid &= np.isfinite(cam2world).all(axis=(1, 2)) & (cam2world[:, 3] == (0, 0, 0, 1)).all(axis=1)
    yield from _views("cam2world", ~rigid, "expected rotations with a position")
    intrinsics = cameras["intrinsics"]
    good = np.isfinite(intrinsics).all(axis=(1, 2)) & (intrinsics[:, (0, 1), (0, 1)] > 0).all(axis=1)
    good &= (intrinsics[:, 2] == (0, 0, 1)).all(axis=1)
    yield from _views("intrinsics", ~good, "expected positive focal lengths and the last row (0, 0, 1)")


def identity_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """Embeddings that are not of unit length, or whose mean is not the head's."""
    identity = dataset.identities[subject].astype(np.float64)
    unit = abs(np.linalg.norm(identity) - 1) < _LENGTH_TOLERANCE
    if not unit:
        yield "identity", f"expected unit length, found {np.linalg.norm(identity):.4f}"
    rows = dataset.read_views(subject, range(dataset.views), ["identity_views"])["identity_views"]
    absent = np.isnan(rows).all(axis=1)
    good = absent | (np.abs(np.linalg.norm(rows, axis=1) - 1) < _LENGTH_TOLERANCE)
    yield from _views("identity_views", ~good, "expected unit length, or NaN throughout")
    if unit and good.all() and not absent.all():
        mean = rows[~absent].mean(axis=0, dtype=np.float64)
        off = np.abs(identity - mean / max(float(np.linalg.norm(mean)), 1e-12)).max()
        if not off < _LENGTH_TOLERANCE:
            yield "identity", f"expected the normalised mean of identity_views, found one that is {off:.4f} off"


def status_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """A head that says of itself that it is not there."""
    if (status := int(dataset.row("status", subject))) != 1:
        yield "status", f"expected 1 (the head is whole), found {status}"


@dataclass
class _Pixels:
    """Wrong pixels of each view."""

    dark: list[Integer[np.ndarray, " view"]] = field(default_factory=list)
    odd: list[Integer[np.ndarray, " view"]] = field(default_factory=list)
    not_unit: list[Integer[np.ndarray, " view"]] = field(default_factory=list)


def picture_problems(dataset: HeadDataset, subject: int) -> Iterator[Finding]:
    """Pixels of RGB and normals that don't go with the mask, and normals without unit length."""
    found = _Pixels()
    for start in range(0, dataset.views, _VIEWS_AT_ONCE):
        pictures = dataset.read_views(subject, range(start, min(start + _VIEWS_AT_ONCE, dataset.views)))
        empty, rgb, normals = pictures["mask"] == 0, pictures["rgb"], pictures["normals"]
        length = np.sqrt(_SQUARES[normals].sum(axis=-1))
        dark = empty & (rgb.min(axis=-1) < WHITE_AT_LEAST)
        odd = empty & (normals != NORMAL_BACKGROUND).any(axis=-1)
        for wrong, into in ((dark, found.dark), (odd, found.odd)):
            into.append(wrong.sum(axis=(1, 2)))
        found.not_unit.append((~empty & (np.abs(length - 1) > NORMAL_TOLERANCE)).sum(axis=(1, 2)))
    yield from _pixels("rgb", found.dark, "expected white under mask 0")
    yield from _pixels("normals", found.odd, "expected (128, 128, 128) under mask 0")
    yield from _pixels("normals", found.not_unit, "expected unit length under the mask")


def _pixels(array: str, counts: list[Integer[np.ndarray, " view"]], what: str) -> Iterator[Finding]:
    wrong = np.concatenate(counts)
    yield from _views(array, wrong > 0, f"{what}, {wrong.sum()} pixels are not")


def _views(array: str, wrong: Bool[np.ndarray, " view"], what: str) -> Iterator[Finding]:
    if wrong.any():
        some = np.flatnonzero(wrong)
        yield array, f"{what} ({len(some)} views, the first is {some[0]})"


CHECKS: tuple[tuple[tuple[str, ...], Check], ...] = (
    (("cam2world", "intrinsics", "azimuth", "elevation"), camera_problems),
    (("identity", "identity_views"), identity_problems),
    (("status",), status_problems),
    (("rgb", "mask", "normals"), picture_problems),
)
"""Which arrays a check reads; it is left out for a head where one of them has damaged bytes."""
