"""Assignment of target views to groups that are generated together: a pure function of the cameras, independent of
the input order.

All targets of a group share its conditioning views. As in training, no group contains one camera twice. A group with
too few targets is padded with the nearest other targets, then with extra cameras; the results of padding are discarded.

Cameras are relative to the first view of a group, which shows part of the face in training. Without conditioning views
the target nearest to the front comes first; if none shows the face, a frontal padding view does.
"""

from typing import NamedTuple

import numpy as np

from spinmeround.models.geometry.camera_checks import camera_parameters
from spinmeround.models.geometry.cameras import FACE_VISIBLE_DEG, Cameras, absolute_azimuth_deg, angles_between_deg


class TargetGroup(NamedTuple):
    """Targets that are generated together.

    `conditioning_indices` are indices into the given views followed by the anchors. `targets` includes padding;
    `kept` are the targets whose results this group contributes.
    """

    conditioning_indices: tuple[int, ...]
    targets: list[int]
    kept: list[int]


def plan_groups(targets: Cameras, size: int, conditioning_indices: tuple[int, ...] = ()) -> list[TargetGroup]:
    """Groups of `size` targets, neighbours in azimuth together, all on the same conditioning views.

    Every target is kept by one group. Indices from `len(targets)` on are padding cameras; without conditioning views
    the first of these is the frontal one. Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"groups: expected 1 or more targets in a group, got {size}")
    order = rest = sort_by_angle(targets)
    groups = []
    while rest:
        kept = rest[:size]
        group = kept + _padding(kept, order, targets, size, start=len(targets) + (not conditioning_indices))
        if not conditioning_indices:
            group, kept = _with_face_first(group, kept, order, targets, size)
        groups.append(TargetGroup(conditioning_indices, group, kept))
        rest = rest[len(kept) :]
    return groups


def plan_anchored(targets: Cameras, anchors: Cameras, size: int) -> list[TargetGroup]:
    """Groups of `size` targets that share their two nearest anchors, by the angle between cameras.

    Conditioning views are the first view (index 0) and these two anchors (indices from 1 on). Padded as by
    `plan_groups`. Raises ValueError for a size below 1 or fewer than 2 anchors.
    """
    if size < 1 or len(anchors) < 2:
        raise ValueError(f"groups: expected groups of 1 or more and 2 or more anchors, got {size} and {len(anchors)}")
    distance = np.round(angles_between_deg(targets, anchors), 3)  # rounded so that a stable sort breaks ties
    nearest = [tuple(sorted(pair)) for pair in np.argsort(distance, axis=1, kind="stable")[:, :2].tolist()]
    order, groups = sort_by_angle(targets), []
    for first, second in sorted(set(nearest)):
        members = [target for target in order if nearest[target] == (first, second)]
        for start in range(0, len(members), size):
            kept = members[start : start + size]
            padded = kept + _padding(kept, order, targets, size, start=len(targets))
            groups.append(TargetGroup((0, 1 + first, 1 + second), padded, kept))
    return groups


def sort_by_angle(cameras: Cameras) -> list[int]:
    """Indices by azimuth, then elevation, then all camera parameters: independent of the input order."""
    azimuth = np.round(np.mod(cameras.azimuth_deg.astype(np.float64), 360.0), 3) % 360
    keys = (*camera_parameters(cameras).T, np.round(cameras.elevation_deg, 3), azimuth)
    order: list[int] = np.lexsort(keys).tolist()
    return order


def _with_face_first(
    group: list[int], kept: list[int], order: list[int], targets: Cameras, size: int
) -> tuple[list[int], list[int]]:
    """The group with its most frontal target first, if one shows part of the face; otherwise with the frontal padding
    camera first and one target fewer."""
    azimuth, front = absolute_azimuth_deg(targets.azimuth_deg), len(targets)
    facing = [target for target in group if target < front and azimuth[target] <= FACE_VISIBLE_DEG]
    if facing:
        first = min(facing, key=lambda target: azimuth[target])
        return [first, *(target for target in group if target != first)], kept
    if size == 1:
        return group, kept
    kept = kept[: size - 1]
    return [front, *kept, *_padding(kept, order, targets, size - 1, start=front + 1)], kept


def _padding(kept: list[int], order: list[int], targets: Cameras, size: int, *, start: int) -> list[int]:
    """Indices that pad `kept` to `size`: the nearest other targets, then padding cameras from `start` on."""
    if (missing := size - len(kept)) == 0:
        return []
    distance = np.round(angles_between_deg(targets[kept], targets).min(axis=0), 3)
    others = sorted((target for target in order if target not in kept), key=lambda target: distance[target])
    return [*others, *range(start, start + missing)][:missing]
