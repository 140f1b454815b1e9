"""One head as a signed distance: the parts, how they join, and which part a point belongs to."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spinmeround.panohead_bridge.procedural.amounts import earrings, glasses, loose_length, mouth_gap
from spinmeround.panohead_bridge.procedural.anatomy.accessories import earring, frames
from spinmeround.panohead_bridge.procedural.anatomy.body import above_floor, garment, skin_body
from spinmeround.panohead_bridge.procedural.anatomy.expression import neutral, raised
from spinmeround.panohead_bridge.procedural.anatomy.features import (
    add_lids,
    add_mouth,
    add_nose,
    ear,
    eyeball,
    in_face,
    near_ears,
)
from spinmeround.panohead_bridge.procedural.anatomy.hair import hair
from spinmeround.panohead_bridge.procedural.anatomy.headwear import covers, headwear
from spinmeround.panohead_bridge.procedural.anatomy.pose import SCALE, Pose
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, Triple, smooth_union
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy, anatomy, bare_head, skullcap
from spinmeround.panohead_bridge.procedural.traits import Traits

PARTS = ("skin", "hair", "eye", "garment", "glasses", "headwear", "earring")
"""Materials of a head; a point's label is the index of its nearest part."""

FAR = 1.0
REACH = 0.49
"""Start of the lines of sight: inside the cube, outside every clean head."""


@dataclass(frozen=True)
class Sight:
    """A point on the head and the direction from which it is seen from outside, in the world frame."""

    place: Triple
    outward: Triple

    @property
    def start(self) -> Triple:
        """Where the line of sight leaves the cube of half side REACH."""
        sides = (
            (math.copysign(REACH, d) - p) / d for p, d in zip(self.place, self.outward, strict=True) if abs(d) > 1e-9
        )
        length = min(sides)
        x, y, z = (p + length * d for p, d in zip(self.place, self.outward, strict=True))
        return x, y, z

    @property
    def inward(self) -> Triple:
        x, y, z = self.outward
        return -x, -y, -z


@dataclass(frozen=True)
class Head:
    """A head of given traits; distances are in world units, negative inside."""

    traits: Traits
    anatomy: Anatomy
    pose: Pose

    @staticmethod
    def of(traits: Traits) -> "Head":
        return Head(traits, anatomy(traits), Pose.of(traits))

    def local(self, p: Points) -> Points:
        """World points in the head's own frame and unit, in which traits and anatomy are given."""
        return self.pose.head(self.pose.body(p))

    def face(self, local: Points) -> Points:
        """Mirrored points of the face, without what the expression moves on one side."""
        return neutral(self.traits, self.anatomy, local).mirrored()

    def parts(self, p: Points) -> Float[Tensor, "part point"]:
        """Distance to each of PARTS, in world units, at world points."""
        upright = self.pose.body(p)
        return self._local_parts(self.pose.head(upright), upright.mirrored()) * SCALE

    def _local_parts(self, p: Points, upright: Points) -> Float[Tensor, "part point"]:
        """Parts at points in the head's frame, and mirrored ones in the body's."""
        t, a = self.traits, self.anatomy
        right = p.mirrored()
        cap = skullcap(t, p)
        bare, body = bare_head(t, right, cap), skin_body(t, upright)
        skin = smooth_union(bare, body, 0.030)
        far = torch.full_like(skin, FAR)
        shown = in_face(p).nonzero()[:, 0]
        near = self.face(p.take(shown))
        skin = skin.index_copy(0, shown, self._face(near, skin[shown]))
        side = near_ears(p).nonzero()[:, 0]
        beside = right.take(side)
        skin = skin.index_copy(0, side, smooth_union(skin[side], ear(t, a, beside), 0.012))
        eye = far.index_copy(0, shown, eyeball(a, near))
        frame = ring = cloth = far
        if glasses(t) > 0.0:
            both = (p.z > -0.08).nonzero()[:, 0]
            frame = far.index_copy(0, both, frames(t, a, right.take(both)))
        if max(earrings(t)) > 0.0:
            ring = far.index_copy(0, side, earring(t, a, p.take(side), beside))
        if covers(t):
            cloth = above_floor(headwear(t, a, p, right, cap, bare), upright)
        hairs = hair(t, a, p, right, cap)
        if loose_length(t) > 0.5:
            hairs = above_floor(hairs, upright)
        return torch.stack([skin, hairs, eye, garment(t, upright, body), frame, cloth, ring])

    def _face(self, right: Points, skin: Scalars) -> Scalars:
        t, a = self.traits, self.anatomy
        return add_mouth(t, a, right, add_nose(t, a, right, add_lids(t, a, right, skin)))

    def sights(self) -> dict[str, Sight]:
        """The line of sight to each landmark, in the world frame; left and right as in the frontal picture.

        A landmark is seen along an axis of the head's own frame.
        """
        t, a = self.traits, self.anatomy
        middle: Triple = (0.0, 0.070, -0.022)
        front, back, up = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)
        mouth, lip = a.mouth[1], 0.6 * t.lip_fullness
        single: dict[str, tuple[Triple, Triple]] = {
            "nose tip": (a.nose_tip, front),
            "nose root": (a.nose_root, front),
            "upper lip": ((0.0, mouth + lip, 0.0), front),
            "lower lip": ((0.0, mouth - lip - mouth_gap(t), 0.0), front),
            "chin": ((0.0, a.chin + 0.027, 0.0), front),
            "forehead": ((0.0, 0.5 * (a.brow_height + t.hairline), 0.0), front),
            "crown": (middle, up),
            "occiput": (middle, back),
            "nape": ((0.0, -0.120, 0.0), back),
        }
        paired: dict[str, tuple[Triple, Triple]] = {
            "eye": (a.eye, front),
            "mouth corner": (a.mouth_corner, front),
            "brow": ((a.eye[0], a.brow_height + t.brow_arch, 0.0), front),
            "cheek": ((0.58 * t.face_width, -0.050, 0.0), front),
            "ear": ((a.ear[0], a.ear[1], a.ear[2] - 0.45 * t.ear_size), (1.0, 0.0, 0.0)),
        }
        for name, ((x, y, z), (ox, oy, oz)) in paired.items():
            single |= {f"left {name}": ((-x, y, z), (-ox, oy, oz)), f"right {name}": ((x, y, z), (ox, oy, oz))}
        return {
            name: Sight(self.pose.world(self._expressed(name, place)), self.pose.direction(outward))
            for name, (place, outward) in single.items()
        }

    def _expressed(self, name: str, place: Triple) -> Triple:
        """The place of a landmark of the face with the expression."""
        if not name.endswith(("brow", "mouth corner")):
            return place
        x, y, z = place
        return x, y + float(raised(self.traits, self.anatomy, Points(*torch.tensor(place)[:, None]))), z

    def distance(self, p: Points) -> Scalars:
        return join(self.parts(p))

    def labels(self, p: Points) -> Int64[Tensor, " point"]:
        return self.parts(p).argmin(dim=0)


def join(parts: Float[Tensor, "part point"]) -> Scalars:
    """The distance to the head from those of its PARTS; hair and skin meet softly."""
    return torch.minimum(smooth_union(parts[0], parts[1], 0.006), parts[2:].amin(dim=0))
