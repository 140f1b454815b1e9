"""Which target views are generated together: a pure function of the cameras, whatever order they come in.

A long request is anchored: a ring of anchors is generated first, and then each view is conditioned on the first view
and on the two anchors that it is nearest to, by the angle between the cameras seen from the head's centre. A group's
targets share these conditions. No group holds one camera twice, as none does in training: a target at the camera of a
given view, of an anchor or of another target is that view, and a group that is short is filled up with the nearest
other targets, then with views that nobody asked for; what these get there is ignored.

Cameras are relative to the first view of a group, and in training that shows part of the face. So the given view that
is nearest to the front comes first, and where nothing is given the target that is, or, where none shows the face, a
frontal view that nobody asked for.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial import KDTree

from spinmeround.models.geometry.cameras import Cameras, concatenate, is_rotation, orbit

ALLOWED_CONDITIONING = (0, 1, 3)
"""How many conditioning views the model is trained with."""

ANCHORED_CONDITIONING = 3
"""The first view and two anchors."""

ANCHOR_AZIMUTHS_DEG = (45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
"""The paper's seven anchors from the photo on, at elevation 0; without a photo the front is an eighth."""


PART_OF_THE_FACE_DEG = 90.0
"""A view further to the side shows none of the face."""

GOLDEN_ANGLE_DEG = 180 * (3 - 5**0.5)
"""Steps of this angle never come back to where they were, and any number of them is spread over the circle."""

SAME_CAMERA = 1e-4
"""Cameras whose poses and lenses differ by no more are one; far over the rounding of float32."""


class TargetGroup(NamedTuple):
    """Targets that are generated together. `shown` are the views that they are conditioned on, among the given ones and
    then the ring's; `own` are the targets that the group is there for."""

    shown: tuple[int, ...]
    targets: list[int]
    own: list[int]


def anchor_cameras(like: Cameras, *, azimuth_deg: float, front: bool) -> Cameras:
    """The ring of anchors from this azimuth on, with the distance and the lens of the first camera of `like`.

    `front` adds the view at the azimuth itself, as the first.
    """
    return _ring(like, azimuth_deg + np.array([*([0.0] if front else []), *ANCHOR_AZIMUTHS_DEG]))


def _ring(like: Cameras, azimuths_deg: Float64[np.ndarray, " view"]) -> Cameras:
    """Cameras at eye level, with the distance and the lens of the first camera of `like`."""
    radius = float(np.linalg.norm(like.cam2world[0, :3, 3]))
    ring = orbit(np.mod(azimuths_deg, 360.0), np.zeros_like(azimuths_deg), radius=radius)
    return replace(ring, intrinsics=np.tile(like.intrinsics[0], (len(ring), 1, 1)))


def angles_between_deg(a: Cameras, b: Cameras) -> Float64[np.ndarray, "a b"]:
    """Angles between the positions of cameras, seen from the head's centre; 0 to 180 degrees."""
    towards = [cameras.cam2world[:, :3, 3].astype(np.float64) for cameras in (a, b)]
    unit_a, unit_b = (position / np.linalg.norm(position, axis=-1, keepdims=True) for position in towards)
    difference, total = unit_a[:, None] - unit_b[None], unit_a[:, None] + unit_b[None]  # a b 3
    # twice the arctangent keeps its precision at small angles, where the arccosine loses half of it
    halves = np.arctan2(np.linalg.norm(difference, axis=-1), np.linalg.norm(total, axis=-1))
    return np.asarray(np.degrees(2 * halves))


def plan_groups(targets: Cameras, size: int, shown: tuple[int, ...] = ()) -> list[TargetGroup]:
    """Groups of `size` targets, neighbours in azimuth together, all on the views `shown`.

    Every target is one group's own. Indices beyond the targets' number stand for cameras that are added; the first of
    them, where no view is shown, for the frontal one.
    """
    if size < 1:
        raise ValueError(f"groups: expected 1 or more targets in a group, got {size}")
    order = rest = _in_order(targets)
    groups = []
    while rest:
        own = rest[:size]
        group = own + _fillers(own, order, targets, size, beyond=len(targets) + (not shown))
        if not shown:
            group, own = _beginning_at_the_face(group, own, order, targets, size)
        groups.append(TargetGroup(shown, group, own))
        rest = rest[len(own) :]
    return groups


def _beginning_at_the_face(
    group: list[int], own: list[int], order: list[int], targets: Cameras, size: int
) -> tuple[list[int], list[int]]:
    """The group with the target nearest to the front first, where one shows part of the face; else one target less of
    its own and the frontal view first."""
    turned, front = turned_away_deg(targets.azimuth_deg), len(targets)
    facing = [target for target in group if target < front and turned[target] <= PART_OF_THE_FACE_DEG]
    if facing:
        first = min(facing, key=lambda target: turned[target])
        return [first, *(target for target in group if target != first)], own
    if size == 1:
        return group, own
    own = own[: size - 1]
    return [front, *own, *_fillers(own, order, targets, size - 1, beyond=front + 1)], own


def turned_away_deg(azimuth_deg: Float32[np.ndarray, " view"]) -> Float64[np.ndarray, " view"]:
    """Azimuths from the front to either side, 0 to 180 degrees, rounded so that equal ones are equal."""
    return np.abs(np.round((azimuth_deg.astype(np.float64) + 180) % 360 - 180, 3))


def plan_anchored(targets: Cameras, anchors: Cameras, size: int) -> list[TargetGroup]:
    """Groups of `size` targets that have the same two nearest anchors, on the first view (index 0) and those (from 1
    on); filled up as by `plan_groups`, with the nearest targets of other groups first."""
    if size < 1 or len(anchors) < 2:
        raise ValueError(f"groups: expected groups of 1 or more and 2 or more anchors, got {size} and {len(anchors)}")
    distance = np.round(angles_between_deg(targets, anchors), 3)  # equal angles are a tie, which the order settles
    nearest = [tuple(sorted(pair)) for pair in np.argsort(distance, axis=1, kind="stable")[:, :2].tolist()]
    order, groups = _in_order(targets), []
    for first, second in sorted(set(nearest)):
        members = [target for target in order if nearest[target] == (first, second)]
        for start in range(0, len(members), size):
            own = members[start : start + size]
            filled = own + _fillers(own, order, targets, size, beyond=len(targets))
            groups.append(TargetGroup((0, 1 + first, 1 + second), filled, own))
    return groups


def _fillers(own: list[int], order: list[int], targets: Cameras, size: int, *, beyond: int) -> list[int]:
    """What fills a group of its own targets: those nearest to them, each once, then indices from `beyond` on."""
    if (missing := size - len(own)) == 0:
        return []
    distance = np.round(angles_between_deg(targets[own], targets).min(axis=0), 3)
    others = sorted((target for target in order if target not in own), key=lambda target: distance[target])
    return [*others, *range(beyond, beyond + missing)][:missing]


def _in_order(cameras: Cameras) -> list[int]:
    """Indices by azimuth, then elevation, then all that a camera is: an order that owes nothing to the one asked."""
    azimuth = np.round(np.mod(cameras.azimuth_deg.astype(np.float64), 360.0), 3) % 360
    order: list[int] = np.lexsort((*_numbers(cameras).T, np.round(cameras.elevation_deg, 3), azimuth)).tolist()
    return order


def _numbers(cameras: Cameras) -> Float64[np.ndarray, "view number"]:
    """All numbers of each camera's pose and lens."""
    rows = cameras.cam2world.reshape(-1, 16), cameras.intrinsics.reshape(-1, 9)
    return np.concatenate(rows, axis=1).astype(np.float64)


def first_alike(cameras: Cameras) -> list[int]:
    """The index of the first camera that each one is the same as; its own where there is none before it."""
    numbers = _numbers(cameras)
    return [min(alike) for alike in KDTree(numbers).query_ball_point(numbers, SAME_CAMERA)]


def _others(cameras: Cameras, like: Cameras, count: int) -> Cameras:
    """So many cameras at eye level round the head that are none of `cameras`; distance and lens of the first `like`."""
    turns = np.arange(1, 1 + count + len(cameras)) * GOLDEN_ANGLE_DEG
    ring = _ring(like, float(like.azimuth_deg[0]) + turns)
    alike = first_alike(concatenate([cameras, ring]))[len(cameras) :]
    return ring[[turn for turn, first in enumerate(alike) if first >= len(cameras)][:count]]


def check_cameras(name: str, cameras: Cameras, *, nearest: float = 0.87) -> None:
    """Raises ValueError for a camera inside the head's cube (half its diagonal is 0.87), for one whose pose or lens is
    not finite, for a pose that scales or mirrors, and for a focal length that is not over 0."""
    finite, turn = np.isfinite(cameras.cam2world).all(axis=(1, 2)), cameras.cam2world[:, :3, :3].astype(np.float64)
    wrong = np.flatnonzero(~finite | ~is_rotation(np.where(finite[:, None, None], turn, 0.0)))
    if len(wrong):
        raise ValueError(
            f"{name}: expected rigid poses of finite numbers, got {cameras.cam2world[wrong[0]].tolist()} for "
            f"camera {wrong[0]}"
        )
    distance = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=-1)
    wrong = np.flatnonzero(~(distance >= nearest))
    if len(wrong):
        raise ValueError(
            f"{name}: expected cameras at a distance of {nearest} or more from the head's centre, "
            f"got {distance[wrong[0]]:.3g} for camera {wrong[0]}"
        )
    focal = cameras.intrinsics[:, [0, 1], [0, 1]]
    wrong = np.flatnonzero(~(focal > 0).all(axis=1) | ~np.isfinite(cameras.intrinsics).all(axis=(1, 2)))
    if len(wrong):
        raise ValueError(
            f"{name}: expected finite lens numbers and focal lengths over 0 (of the picture's side), "
            f"got focal {focal[wrong[0]].tolist()} for camera {wrong[0]}"
        )


def check_different(name: str, given: Cameras) -> None:
    """Raises ValueError where two given views are at one camera."""
    twice = [(first, view) for view, first in enumerate(first_alike(given)) if first != view]
    if twice:
        raise ValueError(
            f"{name}: expected views from different cameras, got one twice, as views {twice[0][0]} and {twice[0][1]}"
        )


class GroupedViews(NamedTuple):
    """Views to generate and their groups. Cameras from `counting` on fill groups up and are nobody's result."""

    cameras: Cameras
    counting: int
    groups: list[TargetGroup]


class Plan(NamedTuple):
    """What is generated: first the ring, if there is one, then the targets that are not there yet. `sources` tells for
    each camera that was asked for where its view is among the given views, the ring's and the targets'."""

    ring: GroupedViews | None
    targets: GroupedViews
    sources: list[int]


def plan_views(cameras: Cameras, given: Cameras | None, views: int, anchored: bool | None) -> Plan:
    """The groups of a request for a network of so many views; `anchored` None takes anchors where one group can't
    hold the request and the network can be given three views.

    Raises ValueError for no cameras, for a number of given views that the network isn't trained with, for given views
    at one camera, and for anchors that can't be had.
    """
    if len(cameras) < 1:
        raise ValueError("cameras: expected 1 or more, got none")
    known = 0 if given is None else len(given)
    allowed = [m for m in ALLOWED_CONDITIONING if m < views]
    if known not in allowed:
        raise ValueError(f"conditioning: expected {' or '.join(map(str, allowed))} views, got {known}")
    if given is not None:
        check_different("conditioning", given)
    possible = known < ANCHORED_CONDITIONING < views
    if anchored and not possible:
        raise ValueError(
            f"anchored: expected 0 or 1 conditioning views and a network of 4 or more, got {known} and {views}; "
            "leave it out to let all groups see the given views alone"
        )
    places, like = ([], cameras[_in_order(cameras)[:1]]) if given is None else ([given], given)
    turned = np.zeros(0) if given is None else turned_away_deg(given.azimuth_deg)
    shown = tuple(np.argsort(turned, kind="stable").tolist())

    def grouped(targets: Cameras, groups: list[TargetGroup]) -> GroupedViews:
        fillers = max([0, *(index - len(targets) + 1 for group in groups for index in group.targets)])
        front = [] if not fillers or groups[0].shown else [_ring(like, np.zeros(1))]
        others = _others(concatenate([*places, targets, *front]), like, fillers - len(front))
        return GroupedViews(concatenate([targets, *front, others]), len(targets), groups)

    ring, targets = None, cameras[_missing(cameras, places)]
    groups = plan_groups(targets, views - known, shown)
    if possible and len(groups) > 1 if anchored is None else anchored:
        azimuth = 0.0 if given is None else float(given.azimuth_deg[0])
        views_of_ring = anchor_cameras(like, azimuth_deg=azimuth, front=given is None)
        ring = grouped(views_of_ring, plan_groups(views_of_ring, views - known, shown))
        places, targets = [*places, views_of_ring], cameras[_missing(cameras, [*places, views_of_ring])]
        groups = plan_anchored(targets, concatenate(places)[1:], views - ANCHORED_CONDITIONING)
    alike = first_alike(concatenate([*places, targets, cameras]))
    return Plan(ring, grouped(targets, groups), alike[len(alike) - len(cameras) :])


def _missing(cameras: Cameras, places: list[Cameras]) -> list[int]:
    """Indices of the cameras that are neither at one of these places nor the same as one before."""
    before = sum(map(len, places))
    alike = first_alike(concatenate([*places, cameras]))[before:]
    return [index for index, first in enumerate(alike) if first == before + index]
