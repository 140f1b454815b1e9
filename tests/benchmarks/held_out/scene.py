"""A clean head with one held-out defect, as it is measured, meshed and rendered."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spinmeround.panohead_bridge.procedural.anatomy.appearance import Appearance
from spinmeround.panohead_bridge.procedural.anatomy.head import Head, join
from spinmeround.panohead_bridge.procedural.anatomy.primitives import Points
from spinmeround.panohead_bridge.procedural.scene import Scene
from tests.benchmarks.held_out.frame import Kind, Parts, Source


@dataclass(frozen=True)
class HeldOutScene(Scene):
    """The copies that the kind shows are joined; each point has the colour and the label of the nearest."""

    kind: Kind

    @staticmethod
    def with_kind(head: Head, kind: Kind) -> "HeldOutScene":
        return HeldOutScene(head, Appearance.of(head), (), kind)

    def parts(self, p: Points) -> Parts:
        copies = [self._copy(source) for source in self.kind.sources(p)]
        return self.kind.carve(p, torch.stack(copies).amin(dim=0))

    def labels(self, p: Points) -> Tensor:
        _, points, parts = self._nearest(p)
        return self.appearance.regions(points, parts)

    def shade(self, p: Points) -> Tensor:
        distance, points, parts = self._nearest(p)
        return torch.cat([distance[None], self.kind.tint(p, self.appearance.albedo(points, parts))])

    def _copy(self, source: Source) -> Parts:
        parts = self.head.parts(source.points) * source.scale
        return parts if source.bound is None else torch.maximum(parts, source.bound)

    def _nearest(self, p: Points) -> tuple[Tensor, Points, Parts]:
        """Distance, and of the nearest copy the points of the clean head and the distances to the parts."""
        sources = self.kind.sources(p)
        copies = [self.kind.carve(p, self._copy(source)) for source in sources]
        nearest, points, parts = join(copies[0]), sources[0].points, copies[0]
        for source, copy in zip(sources[1:], copies[1:], strict=True):
            closer = join(copy) < nearest
            points = Points(*(torch.where(closer, new, old) for new, old in zip(source.points, points, strict=True)))
            nearest, parts = torch.minimum(nearest, join(copy)), torch.where(closer, copy, parts)
        return nearest, points, parts
