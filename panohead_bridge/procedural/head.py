"""One head as a signed distance: the parts, how they join, and which part a point belongs to."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from panohead_bridge.procedural.body import garment, skin_body
from panohead_bridge.procedural.features import (
    add_lids,
    add_mouth,
    add_nose,
    beside_head,
    ear,
    eyeball,
    glasses,
    glasses_amount,
    in_face,
)
from panohead_bridge.procedural.hair import hair
from panohead_bridge.procedural.primitives import Points, Scalars, smooth_union
from panohead_bridge.procedural.skull import Anatomy, anatomy, bare_head, skullcap
from panohead_bridge.procedural.traits import Traits

PARTS = ("skin", "hair", "eye", "garment", "glasses")
"""Materials of a head; a point's label is the place of its nearest part in this tuple."""

SCALE, OFFSET = 1.12, (0.0, -0.022, 0.016)
"""Size and place of the head in the world: it fills the picture, and no style of hair leaves it."""

FAR = 1.0


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
        side = beside_head(p).nonzero()[:, 0]
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

    def landmark_places(self) -> list[tuple[float, float]]:
        """World (x, y) of the eyes' centres, the nose tip and the mouth corners, left first as pictured."""
        a = self.anatomy
        (ex, ey, _), (_, ny, _), (mx, my, _) = a.eye, a.nose_tip, a.mouth_corner
        places = ((-ex, ey), (ex, ey), (0.0, ny), (-mx, my), (mx, my))
        return [(SCALE * x + OFFSET[0], SCALE * y + OFFSET[1]) for x, y in places]

    def distance(self, p: Points) -> Scalars:
        return join(self.parts(p))

    def labels(self, p: Points) -> Int64[Tensor, " point"]:
        return self.parts(p).argmin(dim=0)


def join(parts: Float[Tensor, "part point"]) -> Scalars:
    """The distance to the head from those of its PARTS; hair and skin meet softly."""
    skin, hair_, eye, garment_, frame = parts.unbind(0)
    solid = smooth_union(skin, hair_, 0.006)
    return torch.minimum(torch.minimum(solid, eye), torch.minimum(garment_, frame))
