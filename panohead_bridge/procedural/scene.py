"""A head with its defects, if any, as it is measured, meshed and rendered.

Defects lie on each other in layers: each takes the head with the defects below it as its clean one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.appearance import Appearance
from spinmeround.panohead_bridge.procedural.anatomy.head import Head, join
from spinmeround.panohead_bridge.procedural.anatomy.primitives import (
    Points,
    Scalars,
    Triple,
    smooth_intersection,
    smooth_union,
)
from spinmeround.panohead_bridge.procedural.anatomy.skull import first_hits
from spinmeround.panohead_bridge.procedural.defects import KINDS, LAYERS, Damage, Source
from spinmeround.panohead_bridge.procedural.options import Defect, random_of
from spinmeround.panohead_bridge.procedural.traits import Traits


class Shown(NamedTuple):
    """Distances to the parts, the points of the clean head that are shown, and the factor on their colour."""

    parts: Float[Tensor, "part point"]
    points: Points
    gain: Float[Tensor, "3 #point"]


Layer = Callable[[Points], Shown]


@dataclass(frozen=True)
class Scene:
    head: Head
    appearance: Appearance
    damages: tuple[Damage, ...]

    @staticmethod
    def of(traits: Traits, defects: Sequence[Defect], seed: int) -> "Scene":
        """The head of these traits with these defects; where a defect lies is drawn from the seed and its kind."""
        head = Head.of(traits)
        scene = Scene(head, Appearance.of(head), ())
        for defect in sorted(defects, key=lambda each: LAYERS.index(each.kind)):
            damage = KINDS[defect.kind](defect, random_of(seed, f"damage: {defect.kind}"), scene.distance)
            scene = Scene(head, scene.appearance, (*scene.damages, damage))
        return scene

    def shown(self, p: Points) -> Shown:
        """What each point shows."""
        layer: Layer = self._clean
        for damage in self.damages:
            layer = _damaged(damage, layer)
        return layer(p)

    def _clean(self, p: Points) -> Shown:
        return Shown(self.head.parts(p), p, torch.ones(3, 1))

    def parts(self, p: Points) -> Float[Tensor, "part point"]:
        """Distance to each of head.PARTS, in world units."""
        return self.shown(p).parts

    def distance(self, p: Points) -> Scalars:
        return join(self.parts(p))

    def labels(self, p: Points) -> Int64[Tensor, " point"]:
        """Label of each point, an index in `regions.LABELS`; of several copies, the nearest counts."""
        shown = self.shown(p)
        return self.appearance.regions(shown.points, shown.parts)

    def shade(self, p: Points) -> Float[Tensor, "4 point"]:
        """Signed distance, then unlit red, green and blue."""
        shown = self.shown(p)
        colours = (self.appearance.albedo(shown.points, shown.parts) * shown.gain).clamp(0.0, 1.0)
        return torch.cat([join(shown.parts)[None], colours])

    def places(self, names: Iterable[str] | None = None) -> dict[str, Triple]:
        """Landmarks of the head in the world frame, on the outermost surface; NaN where cut off."""
        sights = self.head.sights()
        for damage in self.damages:
            sights = {name: damage.moved(sight) for name, sight in sights.items()}
        chosen = list(sights) if names is None else list(names)
        found = first_hits(self.distance, [sights[name].start for name in chosen], [sights[n].inward for n in chosen])
        return dict(zip(chosen, found, strict=True))


def _damaged(damage: Damage, below: Layer) -> Layer:
    """The layer of a damage on the layer below it."""

    def layer(p: Points) -> Shown:
        first, *others = (_copy(source, below) for source in damage.sources(p))
        for other in others:
            first = _joined(first, other, damage.blend)
        return Shown(damage.carve(p, first.parts), first.points, first.gain * damage.gain(p))

    return layer


def _copy(source: Source, below: Layer) -> Shown:
    shown = below(source.points)
    parts = shown.parts * source.scale
    if source.bound is not None:
        parts = _cut(parts, source.bound, source.rounding)
    return shown._replace(parts=parts)


def _cut(parts: Float[Tensor, "part point"], bound: Scalars, rounding: float) -> Float[Tensor, "part point"]:
    return smooth_intersection(parts, bound, rounding) if rounding > 0.0 else torch.maximum(parts, bound)


def _joined(a: Shown, b: Shown, blend: float) -> Shown:
    """Two copies grown into each other; a point shows the nearer one."""
    nearer = join(b.parts) < join(a.parts)
    parts = smooth_union(a.parts, b.parts, blend) if blend > 0.0 else torch.minimum(a.parts, b.parts)
    points = Points(*(torch.where(nearer, y, x) for x, y in zip(a.points, b.points, strict=True)))
    return Shown(parts, points, torch.where(nearer, b.gain, a.gain))
