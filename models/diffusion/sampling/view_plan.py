"""The plan of a request: which views are generated, in which groups, on which conditioning views.

A request that exceeds one group is anchored: a ring of anchors is generated first, then each view is conditioned on the
first view and its two nearest anchors. A target at the camera of a given view, an anchor or another target is not
generated again. The given view nearest to the front comes first.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from spinmeround.models.diffusion.sampling.groups import TargetGroup, plan_anchored, plan_groups, sort_by_angle
from spinmeround.models.geometry.camera_checks import check_distinct, first_occurrences
from spinmeround.models.geometry.cameras import Cameras, absolute_azimuth_deg, concatenate, orbit

ALLOWED_CONDITIONING_VIEWS = (0, 1, 3)
"""Numbers of conditioning views that the model is trained with."""

ANCHORED_CONDITIONING_VIEWS = 3
"""The first view and two anchors."""

ANCHOR_AZIMUTHS_DEG = (45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
"""The paper's seven anchors, relative to the photo, at elevation 0; without a photo the front is an eighth."""

GOLDEN_ANGLE_DEG = 180 * (3 - 5**0.5)
"""Multiples of this angle never repeat and spread evenly over the circle."""


@dataclass(frozen=True, kw_only=True)
class GroupedViews:
    """Views to generate and their groups; the first `count` cameras are results, the others are padding."""

    cameras: Cameras
    count: int
    groups: list[TargetGroup]


class ViewPlan(NamedTuple):
    """Views to generate: first the anchors, if any, then the remaining targets.

    `sources` gives for each requested camera the index of its view among given views, anchors and targets.
    """

    anchors: GroupedViews | None
    targets: GroupedViews
    sources: list[int]

    @property
    def stages(self) -> list[GroupedViews]:
        """Anchors, if any, and targets."""
        return [self.targets] if self.anchors is None else [self.anchors, self.targets]


def plan_views(cameras: Cameras, given: Cameras | None, views: int, anchored: bool | None) -> ViewPlan:
    """Plans a request for a network with this many `views` per group.

    `anchored` None selects anchors if the request exceeds one group and the network supports three conditioning views.
    Raises ValueError for no cameras, an unsupported number of given views, given views that share a camera, and anchors
    that are not possible.
    """
    if len(cameras) < 1:
        raise ValueError("cameras: expected 1 or more, got none")
    known = 0 if given is None else len(given)
    allowed = [m for m in ALLOWED_CONDITIONING_VIEWS if m < views]
    if known not in allowed:
        raise ValueError(f"conditioning_views: expected {' or '.join(map(str, allowed))} views, got {known}")
    if given is not None:
        check_distinct("conditioning_views", given)
    possible = known < ANCHORED_CONDITIONING_VIEWS < views
    if anchored and not possible:
        raise ValueError(
            "anchored: expected 0 or 1 conditioning views and a network of 4 or more views, got "
            f"{known} and {views}; leave it out to condition all groups on the given views alone"
        )
    available, like = ([], cameras[sort_by_angle(cameras)[:1]]) if given is None else ([given], given)
    azimuths = np.zeros(0) if given is None else absolute_azimuth_deg(given.azimuth_deg)
    conditioning_indices = tuple(np.argsort(azimuths, kind="stable").tolist())

    anchors, targets = None, cameras[_new_cameras(cameras, available)]
    groups = plan_groups(targets, views - known, conditioning_indices)
    if possible and len(groups) > 1 if anchored is None else anchored:
        azimuth = 0.0 if given is None else float(given.azimuth_deg[0])
        ring = anchor_cameras(like, azimuth_deg=azimuth, front=given is None)
        anchors = _with_padding(ring, plan_groups(ring, views - known, conditioning_indices), available, like)
        available, targets = [*available, ring], cameras[_new_cameras(cameras, [*available, ring])]
        groups = plan_anchored(targets, concatenate(available)[1:], views - ANCHORED_CONDITIONING_VIEWS)
    first = first_occurrences(concatenate([*available, targets, cameras]))
    return ViewPlan(anchors, _with_padding(targets, groups, available, like), first[len(first) - len(cameras) :])


def anchor_cameras(like: Cameras, *, azimuth_deg: float, front: bool) -> Cameras:
    """The ring of anchors starting at an azimuth, with the distance and intrinsics of the first camera of `like`.

    `front` puts the view at the azimuth itself first.
    """
    return _ring(like, azimuth_deg + np.array([*([0.0] if front else []), *ANCHOR_AZIMUTHS_DEG]))


def _ring(like: Cameras, azimuths_deg: Float64[np.ndarray, " view"]) -> Cameras:
    """Cameras at elevation 0 with the distance and intrinsics of the first camera of `like`."""
    radius = float(np.linalg.norm(like.cam2world[0, :3, 3]))
    ring = orbit(np.mod(azimuths_deg, 360.0), np.zeros_like(azimuths_deg), radius=radius)
    return replace(ring, intrinsics=np.tile(like.intrinsics[0], (len(ring), 1, 1)))


def _with_padding(targets: Cameras, groups: list[TargetGroup], available: list[Cameras], like: Cameras) -> GroupedViews:
    """The groups with the padding cameras that their indices refer to."""
    padding = max([0, *(index - len(targets) + 1 for group in groups for index in group.targets)])
    front = [] if not padding or groups[0].conditioning_indices else [_ring(like, np.zeros(1))]
    others = _padding_cameras(concatenate([*available, targets, *front]), like, padding - len(front))
    return GroupedViews(cameras=concatenate([targets, *front, others]), count=len(targets), groups=groups)


def _padding_cameras(cameras: Cameras, like: Cameras, count: int) -> Cameras:
    """`count` cameras at elevation 0, none equal to one of `cameras`, with the distance and intrinsics of `like`."""
    steps = np.arange(1, 1 + count + len(cameras)) * GOLDEN_ANGLE_DEG
    ring = _ring(like, float(like.azimuth_deg[0]) + steps)
    first = first_occurrences(concatenate([cameras, ring]))[len(cameras) :]
    return ring[[step for step, index in enumerate(first) if index >= len(cameras)][:count]]


def _new_cameras(cameras: Cameras, available: list[Cameras]) -> list[int]:
    """Indices of the cameras that are neither available nor equal to an earlier one."""
    before = sum(map(len, available))
    first = first_occurrences(concatenate([*available, cameras]))[before:]
    return [index for index, earliest in enumerate(first) if earliest == before + index]
