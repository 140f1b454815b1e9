"""Which target views are generated together: a pure function of the cameras, whatever order they come in.

A long request is anchored: a ring of anchors is generated first, and then each view is conditioned on the first view
and on the two anchors that it is nearest to, by the angle between the cameras seen from the head's centre. A group's
targets share these conditions; where too few do, the nearest other targets fill the group up, and what they get there
is ignored.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from models.geometry.cameras import Cameras, orbit

ALLOWED_CONDITIONING = (0, 1, 3)
"""How many conditioning views the model is trained with."""

ANCHORED_CONDITIONING = 3
"""The first view and two anchors."""

ANCHOR_AZIMUTHS_DEG = (45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
"""The paper's seven anchors from the photo on, at elevation 0; without a photo the front is an eighth."""


class TargetGroup(NamedTuple):
    """Targets that are generated together on the same two anchors. The first `counting` are this group's own."""

    anchors: tuple[int, int]
    targets: list[int]
    counting: int


def anchor_cameras(like: Cameras, *, azimuth_deg: float, front: bool) -> Cameras:
    """The ring of anchors from this azimuth on, with the distance and the lens of the first camera of `like`.

    `front` adds the view at the azimuth itself, as the first.
    """
    azimuths = azimuth_deg + np.array([*([0.0] if front else []), *ANCHOR_AZIMUTHS_DEG])
    intrinsics = like.intrinsics[0]
    ring = orbit(azimuths, np.zeros_like(azimuths), radius=float(np.linalg.norm(like.cam2world[0, :3, 3])))
    return Cameras(
        cam2world=ring.cam2world,
        intrinsics=np.tile(intrinsics, (len(ring), 1, 1)),
        azimuth_deg=ring.azimuth_deg,
        elevation_deg=ring.elevation_deg,
    )


def angles_between_deg(a: Cameras, b: Cameras) -> Float64[np.ndarray, "a b"]:
    """Angles between the positions of cameras, seen from the head's centre; 0 to 180 degrees."""
    towards = [cameras.cam2world[:, :3, 3].astype(np.float64) for cameras in (a, b)]
    unit_a, unit_b = (position / np.linalg.norm(position, axis=-1, keepdims=True) for position in towards)
    difference, total = unit_a[:, None] - unit_b[None], unit_a[:, None] + unit_b[None]  # a b 3
    # twice the arctangent keeps its precision at small angles, where the arccosine loses half of it
    halves = np.arctan2(np.linalg.norm(difference, axis=-1), np.linalg.norm(total, axis=-1))
    return np.asarray(np.degrees(2 * halves))


def plan_groups(targets: Cameras, size: int) -> list[list[int]]:
    """Indices of the targets of each group, `size` of them, neighbours in azimuth together.

    Every target is in a group; a last group that is short is filled up with targets of the first, whose second
    results are to be ignored: each index counts where it comes first.
    """
    if size < 1 or len(targets) < 1:
        raise ValueError(f"groups: expected 1 or more targets in groups of 1 or more, got {len(targets)} in {size}")
    order = _in_order(targets)
    filled = order + [order[i % len(order)] for i in range(-len(order) % size)]
    return [filled[start : start + size] for start in range(0, len(filled), size)]


def plan_anchored(targets: Cameras, anchors: Cameras, size: int) -> list[TargetGroup]:
    """Groups of `size` targets that have the same two nearest anchors; each target counts in one group alone."""
    if size < 1 or len(targets) < 1 or len(anchors) < 2:
        raise ValueError(
            f"groups: expected 1 or more targets in groups of 1 or more and 2 or more anchors, got {len(targets)} in "
            f"{size} and {len(anchors)}"
        )
    distance = np.round(angles_between_deg(targets, anchors), 3)  # equal angles are a tie, which the order settles
    nearest = [tuple(sorted(pair)) for pair in np.argsort(distance, axis=1, kind="stable")[:, :2].tolist()]
    order, near = _in_order(targets), angles_between_deg(targets, targets)
    groups = []
    for first, second in sorted(set(nearest)):
        members = [target for target in order if nearest[target] == (first, second)]
        for start in range(0, len(members), size):
            own = members[start : start + size]
            groups.append(TargetGroup((first, second), own + _fillers(own, order, near, size), len(own)))
    return groups


def _fillers(own: list[int], order: list[int], near: Float64[np.ndarray, "a b"], size: int) -> list[int]:
    """The targets nearest to a short group's own, each once, and over again where there are too few."""
    by_distance = np.round(near[own].min(axis=0), 3)
    others = sorted((target for target in order if target not in own), key=lambda target: by_distance[target])
    pool = others or own
    return [pool[i % len(pool)] for i in range(size - len(own))]


def _in_order(targets: Cameras) -> list[int]:
    """Indices by azimuth, then elevation: an order that owes nothing to the one asked."""
    order: list[int] = np.lexsort((targets.elevation_deg, np.mod(targets.azimuth_deg, 360.0))).tolist()
    return order


def check_cameras(name: str, cameras: Cameras, *, nearest: float = 0.87) -> None:
    """Raises ValueError for a camera inside the head's cube (half its diagonal is 0.87) or one that is not finite."""
    distance = np.linalg.norm(cameras.cam2world[:, :3, 3], axis=-1)
    wrong = np.flatnonzero(~(distance >= nearest) | ~np.isfinite(cameras.cam2world).all(axis=(1, 2)))
    if len(wrong):
        raise ValueError(
            f"{name}: expected cameras at a distance of {nearest} or more from the head's centre, "
            f"got {distance[wrong[0]]:.3g} for camera {wrong[0]}"
        )


class Plan(NamedTuple):
    """What is generated in which groups. Without a ring `first` are groups of the targets; with one `first` are groups
    of the ring's views, and `near` those of the targets."""

    ring: Cameras | None
    first: list[list[int]]
    near: list[TargetGroup]

    def anchors(self, given: int) -> Cameras:
        """The anchors, without the front that stands in for a view that is not given."""
        assert self.ring is not None
        return self.ring[slice(1 - given, None)]


def plan_views(cameras: Cameras, given: Cameras | None, views: int, anchored: bool | None) -> Plan:
    """The groups of a request for a network of so many views; `anchored` None takes anchors where one group can't
    hold the request and the network can be given three views.

    Raises ValueError for a number of given views that it isn't trained with, and for anchors that can't be had.
    """
    known = 0 if given is None else len(given)
    allowed = [m for m in ALLOWED_CONDITIONING if m < views]
    if known not in allowed:
        raise ValueError(f"conditioning: expected {' or '.join(map(str, allowed))} views, got {known}")
    possible = known < ANCHORED_CONDITIONING < views
    if anchored and not possible:
        raise ValueError(
            f"anchored: expected 0 or 1 conditioning views and a network of 4 or more, got {known} and {views}; "
            "leave it out to let all groups see the given views alone"
        )
    if not (possible and len(cameras) > views - known if anchored is None else anchored):
        return Plan(None, plan_groups(cameras, views - known), [])
    azimuth = 0.0 if given is None else float(given.azimuth_deg[0])
    ring = anchor_cameras(cameras if given is None else given, azimuth_deg=azimuth, front=given is None)
    plan = Plan(ring, plan_groups(ring, views - known), [])
    return plan._replace(near=plan_anchored(cameras, plan.anchors(known), views - ANCHORED_CONDITIONING))
