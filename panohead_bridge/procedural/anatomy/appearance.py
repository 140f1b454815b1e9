"""Colour without light at points of the surface: skin, hair, eyes, garment and frames.

Fine structure (pores, freckles, strands, brows) lives here and not in the geometry. Everything is
elementwise in the point and smooth in the traits.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spinmeround.panohead_bridge.procedural.amounts import (
    bald_sides,
    baldness,
    beard,
    curl,
    glasses_tint,
    hat,
    mouth_gap,
    scarf,
    streak,
    thinning,
)
from spinmeround.panohead_bridge.procedural.anatomy import features
from spinmeround.panohead_bridge.procedural.anatomy.hair import part_x, sparseness
from spinmeround.panohead_bridge.procedural.anatomy.head import PARTS, Head
from spinmeround.panohead_bridge.procedural.anatomy.headwear import band, below_edge
from spinmeround.panohead_bridge.procedural.anatomy.pigments import Colour, Palette, palette
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, smoothstep
from spinmeround.panohead_bridge.procedural.anatomy.regions import (
    LABELS,
    beard_cover,
    brow_cover,
    lip_cover,
    mouth_cover,
)
from spinmeround.panohead_bridge.procedural.traits import Traits, switch

Colours = Float[Tensor, "3 point"]

IRIS_RADIUS = 0.0122
PUPIL_RADIUS = 0.0052
EDGE = 0.0016
"""Half the width over which two materials blend, in world units."""


@dataclass(frozen=True)
class Appearance:
    head: Head
    colours: Palette

    @staticmethod
    def of(head: Head) -> "Appearance":
        return Appearance(head, palette(head.traits))

    def albedo(self, p: Points, parts: Float[Tensor, "part point"]) -> Colours:
        """Colours of points, from their distances to the head's parts."""
        p = self.head.local(p)
        nearest = parts[0]
        colours = self._skin(p)
        paints = (self._hair, self._eye, self._garment, self._frame, self._headwear, self._earring)
        for distance, paint in zip(parts[1:], paints, strict=True):
            weight = smoothstep(nearest - distance, -EDGE, EDGE)
            seen = (weight > 0.0).nonzero()[:, 0]
            w = weight[seen]
            colours[:, seen] = colours[:, seen] * (1.0 - w) + paint(p.take(seen)) * w
            nearest = torch.minimum(nearest, distance)
        return colours

    def regions(self, p: Points, parts: Float[Tensor, "part point"]) -> Int64[Tensor, " point"]:
        """Labels (indices in `regions.LABELS`) of points, from their distances to the head's parts."""
        labels = parts.argmin(dim=0)
        p = self.head.local(p)
        face = ((labels == PARTS.index("skin")) & (p.z > -0.03)).nonzero()[:, 0]
        right = self.head.face(p.take(face))
        found = labels[face]
        covers = {"beard": beard(self.head.traits) * beard_cover(self.head, right)}
        covers |= {"lips": lip_cover(self.head, right), "brows": brow_cover(self.head, right)}
        if mouth_gap(self.head.traits) > 0.0:
            covers["mouth"] = mouth_cover(self.head, right)
        for name, cover in covers.items():
            found = torch.where(cover > 0.5, LABELS.index(name), found)
        return labels.index_copy(0, face, found)

    def _skin(self, p: Points) -> Colours:
        t, c = self.head.traits, self.colours
        mottle = noise(p, 55.0) * 0.6 + noise(p, 140.0) * 0.4
        skin = column(c.skin) * (1.0 + 0.035 * t.skin_texture * mottle)
        face = (p.z > -0.03).nonzero()[:, 0]
        skin[:, face] = self._face(p.take(face), skin[:, face])
        return skin

    def _face(self, p: Points, skin: Colours) -> Colours:
        t, a, c = self.head.traits, self.head.anatomy, self.colours
        right = self.head.face(p)
        flush = gaussian(right, (t.face_width * 0.58, -0.050), 0.030) + 0.8 * gaussian(right, a.nose_tip[:2], 0.018)
        skin = mix(skin, column(c.blush), (0.55 + 0.35 * t.skin_redness) * flush.clamp(max=1.0))
        spots = smoothstep(noise(p, 430.0) + noise(Points(p.y, p.z, p.x), 590.0), 0.90, 1.30)
        spread = gaussian(right, (0.040, -0.030), 0.042).clamp(max=1.0)
        freckles = 0.45 * switch(t.freckles, 0.72, 0.95)
        skin = mix(skin, column(c.skin) * column((0.66, 0.52, 0.44)), freckles * spots * spread)
        skin = self._beard(p, right, skin)
        skin = self._lips(right, skin)
        skin = self._lids(right, skin)
        return self._brows(p, right, skin)

    def _beard(self, p: Points, right: Points, skin: Colours) -> Colours:
        amount = beard(self.head.traits)
        if amount == 0.0:
            return skin
        cover = beard_cover(self.head, right)
        grain = 0.78 + 0.22 * noise(Points(p.x, p.y * 0.35, p.z), 330.0)
        return mix(skin, column(self.colours.brow) * grain, amount * cover)

    def _lips(self, right: Points, skin: Colours) -> Colours:
        t, a = self.head.traits, self.head.anatomy
        line = features.mouth_line(t, a, right)
        along = right.x / (t.mouth_width * 1.02)
        skin = mix(skin, column(self.colours.lips), 0.92 * lip_cover(self.head, right))
        gap = features.lip_gap(t, right)
        seam = smoothstep((line + 0.5 * gap).abs() - 0.5 * gap, 0.0022, 0.0004) * smoothstep(along, 1.02, 0.9)
        skin = mix(skin, column(self.colours.lips) * 0.35, 0.75 * seam)
        if mouth_gap(t) == 0.0:
            return skin
        teeth = smoothstep(line, -0.0105, -0.0085) * smoothstep(right.x / t.mouth_width, 0.80, 0.62)
        inside = mix(column((0.26, 0.075, 0.075)).expand(3, len(line)), column((0.92, 0.89, 0.83)), teeth)
        return mix(skin, inside, mouth_cover(self.head, right))

    def _lids(self, right: Points, skin: Colours) -> Colours:
        t, a = self.head.traits, self.head.anatomy
        gap = features.lid_gap(t, a, right)
        upper = smoothstep(right.y - a.eye[1], -0.002, 0.004)
        lash = smoothstep(gap, 0.0036, 0.0008) * (0.35 + 0.65 * upper)
        fold = smoothstep((gap - 0.0075).abs(), 0.0028, 0.0) * upper * smoothstep(gap, 0.02, 0.0)
        shadow = smoothstep(gap, 0.024, 0.0) * (0.16 + 0.20 * switch(t.lip_colour, 0.5, 1.0) * upper)
        skin = mix(skin, column(self.colours.skin) * column((0.62, 0.46, 0.44)), shadow)
        skin = mix(skin, column(self.colours.skin) * 0.50, 0.5 * fold)
        skin = mix(skin, column(self.colours.brow) * 0.45, 0.85 * lash)
        return mix(skin, column((0.78, 0.47, 0.43)), 0.7 * smoothstep(gap, 0.0, -0.0012))

    def _brows(self, p: Points, right: Points, skin: Colours) -> Colours:
        hairs = 0.93 + 0.07 * noise(Points(right.x + 0.8 * p.y, p.y * 0.3, p.z * 0.1), 900.0)
        return mix(skin, column(self.colours.brow), 0.92 * brow_cover(self.head, right) * hairs)

    def _hair(self, p: Points) -> Colours:
        t = self.head.traits
        out = torch.sqrt(p.x * p.x + (p.z + 0.03) ** 2 + 1e-4)
        around = Points(p.x / out, p.y * 1.4 - 0.25, (p.z + 0.03) / out)
        curls = curl(t)
        strands = 0.55 * noise(around, 17.0) + 0.45 * noise(around, 41.0)
        strands = strands * (1.0 - 0.6 * curls) + curls * (
            0.35 * noise(p, 125.0) + 0.35 * noise(Points(p.y, p.z, p.x), 170.0)
        )
        grown = smoothstep(p.y, 0.20, -0.30)
        colour = mix(column(self.colours.hair_root).expand(3, len(p.x)), column(self.colours.hair_tip), grown)
        line = smoothstep((p.x - part_x(t)).abs(), 0.0035, 0.0010) * smoothstep(p.y, 0.140, 0.165)
        parted = 0.35 * line * smoothstep(p.z, -0.09, -0.03) * (1.0 - switch(t.hair_curl, 0.4, 0.85))
        colour = mix(colour, column(self.colours.skin) * 0.72, parted)
        if streak(t) > 0.0:
            colour = mix(colour, column(self.colours.streak), streak(t) * _lock(t, around, strands))
        sheen = smoothstep((p.y - 0.150 - 0.012 * strands).abs(), 0.050, 0.0)
        light = 1.0 + 0.20 * strands + 0.22 * sheen * (1.0 - 0.7 * curls)
        colour = (colour * light + 0.030 * sheen).clamp(0.0, 1.0)
        scalp = torch.full_like(p.x, max(0.85 * bald_sides(t), 0.2 * thinning(t)))
        if baldness(t) > 0.0:
            scalp = torch.maximum(scalp, 0.6 * sparseness(t, p))
        return mix(colour, column(self.colours.skin) * 0.9, scalp)

    def _eye(self, p: Points) -> Colours:
        t, a = self.head.traits, self.head.anatomy
        right = self.head.face(p)
        x, y, _ = features.eye_centre(a)
        offset = torch.sqrt((right.x - x + 0.0012) ** 2 + (right.y - y - 0.0008) ** 2 + 1e-12)
        rays = noise(Points((right.x - x) / (offset + 1e-3), (right.y - y) / (offset + 1e-3), p.z * 0.0), 7.0)
        ring = smoothstep(offset, 0.4 * IRIS_RADIUS, IRIS_RADIUS)
        iris = column(self.colours.iris) * (1.12 + 0.16 * rays - 0.50 * ring * ring)
        white = column((0.93, 0.915, 0.90)) * (1.0 - 0.10 * smoothstep(offset, 0.014, 0.032))
        colour = mix(white, iris, smoothstep(offset, IRIS_RADIUS + 0.0008, IRIS_RADIUS - 0.0008))
        colour = mix(
            colour, column((0.02, 0.02, 0.025)), smoothstep(offset, PUPIL_RADIUS + 0.0007, PUPIL_RADIUS - 0.0007)
        )
        lid = smoothstep(features.lid_gap(t, a, right), -0.0055, 0.0) * smoothstep(right.y - y, -0.002, 0.006)
        colour = colour * (1.0 - 0.45 * lid)
        glint = torch.sqrt((p.x - torch.sign(p.x) * x + 0.0040) ** 2 + (p.y - y - 0.0050) ** 2 + 1e-12)
        return mix(colour, column((1.0, 1.0, 1.0)), 0.9 * smoothstep(glint, 0.0030, 0.0016))

    def _garment(self, p: Points) -> Colours:
        weave = 1.0 + 0.05 * noise(p, 120.0)
        return (column(self.colours.garment) * weave).clamp(0.0, 1.0)

    def _frame(self, p: Points) -> Colours:
        tint = glasses_tint(self.head.traits)
        return mix(column(self.colours.skin), column(self.colours.frame), torch.tensor([tint])).expand(3, len(p.x))

    def _headwear(self, p: Points) -> Colours:
        """Knitted or plain cloth; hats with a brim have a ribbon, some scarves stripes."""
        t, c = self.head.traits, self.colours
        knit = (1.0 - switch(t.hat_style, 0.30, 0.50)) * switch(hat(t), 0.0, 0.3)
        ribs = torch.sin(64.0 * torch.atan2(p.x, p.z + 0.02)) * smoothstep(p.y, 0.20, 0.15)
        cloth = (column(c.headwear) * (1.0 + 0.05 * noise(p, 120.0) + 0.10 * knit * ribs)).clamp(0.0, 1.0)
        if hat(t) > 0.0:
            return mix(cloth, column(c.ribbon), band(t, p))
        striped = 0.8 * switch(t.hat_style, 0.62, 0.85) * switch(scarf(t), 0.0, 0.3)
        stripes = smoothstep(torch.sin(110.0 * (below_edge(t, p) + 0.1 * p.z)), 0.55, 0.85)
        return mix(cloth, column(c.ribbon), striped * stripes)

    def _earring(self, p: Points) -> Colours:
        return column(self.colours.earring).expand(3, len(p.x))


def _lock(t: Traits, around: Points, strands: Scalars) -> Scalars:
    """Cover of the streak: a lock of hair from the crown to the ends, on one side of the head."""
    angle = 2.3 * t.streak_place
    towards = around.x * math.sin(angle) + around.z * math.cos(angle)
    return smoothstep(towards + 0.02 * strands, 0.90, 0.96)


def column(colour: Colour) -> Float[Tensor, "3 1"]:
    return torch.tensor(colour, dtype=torch.float32)[:, None]


def mix(a: Colours, b: Tensor, share: Scalars) -> Colours:
    return a + (b - a) * share


def gaussian(right: Points, centre: tuple[float, ...], sigma: float) -> Scalars:
    """A soft spot in the plane of the face."""
    x, y = right.x - centre[0], right.y - centre[1]
    return torch.exp((x * x + y * y) * (-0.5 / sigma**2))


def noise(p: Points, frequency: float) -> Scalars:
    """A smooth band-limited pattern of about -1 to 1: sines bent by each other, no lattice."""
    x, y, z = p.x * frequency, p.y * frequency, p.z * frequency
    a = torch.sin(x * 1.00 + y * 0.61 - z * 0.37 + 1.7 * torch.sin(y * 0.43 + z * 0.71 + 0.9))
    b = torch.sin(y * 1.07 - z * 0.83 + x * 0.29 + 1.9 * torch.sin(x * 0.53 - y * 0.31 + 2.1))
    c = torch.sin(z * 0.97 + x * 0.73 + y * 0.47 + 1.6 * torch.sin(z * 0.37 - x * 0.67 + 4.2))
    return (a + b + c) * (1.0 / 2.4)
