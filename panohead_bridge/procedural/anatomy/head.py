"""One head as a signed distance: the parts, how they join, and which part a point belongs to."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.body import garment, skin_body
from spinmeround.panohead_bridge.procedural.anatomy.features import (
    add_lids,
    add_mouth,
    add_nose,
    ear,
    eyeball,
    glasses,
    glasses_amount,
    in_face,
    near_ears,
)
from spinmeround.panohead_bridge.procedural.anatomy.hair import hair
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, Triple, smooth_union
from spinmeround.panohead_bridge.procedural.anatomy.skull import Anatomy, anatomy, bare_head, skullcap
from spinmeround.panohead_bridge.procedural.traits import Traits

PARTS = ("skin", "hair", "eye", "garment", "glasses")
"""Materials of a head; a point's label is the index of its nearest part."""

SCALE, OFFSET = 1.12, (0.0, -0.022, 0.016)
"""Size and position of the head in the world: it fills the picture, and no hair style leaves it."""

FAR = 1.0
REACH = 0.49
"""Start of the lines of sight: inside the cube, outside every clean head."""


@dataclass(frozen=True)
class Sight:
    """A point on the head and the axis along which it is seen from outside the cube, in the world frame."""

    place: Triple
    outward: Triple

    @property
    def start(self) -> Triple:
        """The point on the side of the cube from which it is seen."""
        x, y, z = (axis * REACH if axis else value for value, axis in zip(self.place, self.outward, strict=True))
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

    @staticmethod
    def of(traits: Traits) -> "Head":
        return Head(traits, anatomy(traits))

    def local(self, p: Points) -> Points:
        """World points in the head's own frame and unit, in which traits and anatomy are given."""
        return Points(*((value - offset) * (1.0 / SCALE) for value, offset in zip(p, OFFSET, strict=True)))

    def parts(self, p: Points) -> Float[Tensor, "part point"]:
        """Distance to each of PARTS, in world units, at world points."""
        return self._local_parts(self.local(p)) * SCALE

    def _local_parts(self, p: Points) -> Float[Tensor, "part point"]:
        t, a = self.traits, self.anatomy
        right = p.mirrored()
        cap = skullcap(t, p)
        body = skin_body(t, right)
        skin = smooth_union(bare_head(t, right, cap), body, 0.030)
        far = torch.full_like(skin, FAR)
        face = in_face(p).nonzero()[:, 0]
        near = right.take(face)
        skin = skin.index_copy(0, face, self._face(near, skin[face]))
        side = near_ears(p).nonzero()[:, 0]
        skin = skin.index_copy(0, side, smooth_union(skin[side], ear(t, a, right.take(side)), 0.012))
        eye = far.index_copy(0, face, eyeball(a, near))
        frame = far
        if glasses_amount(t) > 0.0:
            both = (p.z > -0.08).nonzero()[:, 0]
            frame = far.index_copy(0, both, glasses(t, a, right.take(both)))
        return torch.stack([skin, hair(t, a, p, right, cap), eye, garment(t, right, body), frame])

    def _face(self, right: Points, skin: Scalars) -> Scalars:
        t, a = self.traits, self.anatomy
        return add_mouth(t, a, right, add_nose(t, a, right, add_lids(t, a, right, skin)))

    def sights(self) -> dict[str, Sight]:
        """The line of sight to each landmark, in the world frame; left and right as in the frontal picture."""
        t, a = self.traits, self.anatomy
        middle: Triple = (0.0, 0.070, -0.022)
        front, back, up = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0)
        mouth, lip = a.mouth[1], 0.6 * t.lip_fullness
        single: dict[str, tuple[Triple, Triple]] = {
            "nose tip": (a.nose_tip, front),
            "nose root": (a.nose_root, front),
            "upper lip": ((0.0, mouth + lip, 0.0), front),
            "lower lip": ((0.0, mouth - lip, 0.0), front),
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
        return {name: Sight(_world(place), outward) for name, (place, outward) in single.items()}

    def distance(self, p: Points) -> Scalars:
        return join(self.parts(p))

    def labels(self, p: Points) -> Int64[Tensor, " point"]:
        return self.parts(p).argmin(dim=0)


def join(parts: Float[Tensor, "part point"]) -> Scalars:
    """The distance to the head from those of its PARTS; hair and skin meet softly."""
    skin, hair_, eye, garment_, frame = parts.unbind(0)
    solid = smooth_union(skin, hair_, 0.006)
    return torch.minimum(torch.minimum(solid, eye), torch.minimum(garment_, frame))


def _world(place: Triple) -> Triple:
    x, y, z = (SCALE * value + offset for value, offset in zip(place, OFFSET, strict=True))
    return x, y, z
