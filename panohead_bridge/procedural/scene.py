"""A head with its defect, if any, as it is measured, meshed and rendered."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.appearance import Appearance
from spinmeround.panohead_bridge.procedural.anatomy.head import Head, join
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points, Scalars, Triple
from spinmeround.panohead_bridge.procedural.anatomy.skull import first_hits
from spinmeround.panohead_bridge.procedural.defects import Damage, Source, damage_of
from spinmeround.panohead_bridge.procedural.options import Defect
from spinmeround.panohead_bridge.procedural.traits import Traits


@dataclass(frozen=True)
class Scene:
    head: Head
    appearance: Appearance
    damage: Damage

    @staticmethod
    def of(traits: Traits, defect: Defect | None, rng: np.random.Generator) -> "Scene":
        head = Head.of(traits)
        return Scene(head, Appearance.of(head), damage_of(defect, rng, head.distance))

    def parts(self, p: Points) -> Float[Tensor, "part point"]:
        """Distance to each of head.PARTS, in world units."""
        copies = [self._copy(source) for source in self.damage.sources(p)]
        return self.damage.carve(p, torch.stack(copies).amin(dim=0))

    def _copy(self, source: Source) -> Float[Tensor, "part point"]:
        parts = self.head.parts(source.points) * source.scale
        return parts if source.bound is None else torch.maximum(parts, source.bound)

    def distance(self, p: Points) -> Scalars:
        return join(self.parts(p))

    def labels(self, p: Points) -> Int64[Tensor, " point"]:
        """Label of each point, an index in `regions.LABELS`; of several copies, the nearest counts."""
        copies = []
        for source in self.damage.sources(p):
            parts = self.damage.carve(p, self._copy(source))
            copies.append((join(parts), self.appearance.regions(source.points, parts)))
        nearest, shown = copies[0]
        for distance, labels in copies[1:]:
            shown = torch.where(distance < nearest, labels, shown)
            nearest = torch.minimum(distance, nearest)
        return shown

    def places(self, names: Iterable[str] | None = None) -> dict[str, Triple]:
        """Landmarks of the head in the world frame, on the outermost surface; NaN where cut off."""
        sights = {name: self.damage.moved(sight) for name, sight in self.head.sights().items()}
        chosen = list(sights) if names is None else list(names)
        found = first_hits(self.distance, [sights[name].start for name in chosen], [sights[n].inward for n in chosen])
        return dict(zip(chosen, found, strict=True))

    def shade(self, p: Points) -> Float[Tensor, "4 point"]:
        """Signed distance, then unlit red, green and blue."""
        copies = []
        for source in self.damage.sources(p):
            parts = self.damage.carve(p, self._copy(source))
            copies.append(torch.cat([join(parts)[None], self.appearance.albedo(source.points, parts)]))
        shown = copies[0]
        for copy in copies[1:]:
            shown = torch.where(copy[0] < shown[0], copy, shown)
        return torch.cat([shown[:1], self.damage.tint(p, shown[1:])])
