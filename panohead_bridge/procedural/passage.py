"""Rays through the soft layer around a surface: what they absorb, and at which depths.

The extinction at signed distance s is sigmoid(-s / softness) / softness per world unit. Rays leap over empty space.
Within the layer they advance in segments over which the distance is taken as linear, so that optical depth has a
closed form: it grows by softplus(-s / softness) times the length that the ray needs for one unit of distance.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn.functional import grid_sample, softplus

from spinmeround.panohead_bridge.procedural.tracing import around_head, one_thread, unit

REACH = 6.0
"""Signed distance, in units of softness, beyond which extinction is taken as zero."""

OPAQUE = 1e-3
"""Transmittance at which a ray ends."""

EVEN = 1e-3
"""A segment whose distance changes by less, in units of softness, has constant extinction."""

Rays = Float32[np.ndarray, "ray 3"]


def reach_of(softness: float) -> float:
    """Distance from the surface, in world units, that a grid has to cover."""
    return REACH * softness


@dataclass(frozen=True)
class DistanceGrid:
    """Signed distance at the centres of cells around a head, with linear interpolation between them."""

    values: Float32[Tensor, "1 1 z y x"]
    low: Float32[np.ndarray, "3"]
    high: Float32[np.ndarray, "3"]
    cell: float
    reach: float
    """Distance from the surface up to which the values are exact; beyond it they are those of larger blocks."""

    @staticmethod
    def of(grid: Float32[np.ndarray, "x y z"], reach: float) -> "DistanceGrid":
        """The part of a head's grid, as `narrow_band` gives it with this reach, within that reach."""
        crop, first = around_head(grid, reach)
        cell = 1.0 / len(grid)
        low = (first + 0.5) * cell - 0.5
        high = low + (np.array(crop.shape) - 1) * cell
        return DistanceGrid(
            torch.from_numpy(crop.T.copy())[None, None], low.astype(np.float32), high.astype(np.float32), cell, reach
        )

    def at(self, points: Float[Tensor, "point 3"]) -> Float[Tensor, " point"]:
        scale, middle = 2.0 / (self.high - self.low), 0.5 * (self.high + self.low)
        places = (points - torch.from_numpy(middle)) * torch.from_numpy(scale)
        found = grid_sample(self.values, places[None, None, None], align_corners=True, padding_mode="border")
        return found.reshape(-1)

    @one_thread()
    def with_normals(self, points: Rays) -> tuple[Float32[np.ndarray, " ray"], Rays]:
        """Distances and unit gradients, from the corners of a tetrahedron (I. Quilez, "normals for an SDF")."""
        corners = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
        places = torch.from_numpy(points) + 0.5 * self.cell * corners[:, None]
        found = self.at(places.reshape(-1, 3)).reshape(4, -1)
        return found.mean(dim=0).numpy(), unit((found.T @ corners).numpy())

    def span(self, origins: np.ndarray, directions: np.ndarray) -> tuple[Float32[np.ndarray, " ray"], ...]:
        """Depths at which rays enter and leave the grid; a ray that misses it leaves before it enters."""
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = (np.stack([self.low, self.high])[:, None] - origins) / directions
        near, far = np.nanmax(sides.min(axis=0), axis=-1), np.nanmin(sides.max(axis=0), axis=-1)
        return np.maximum(near, 0.0).astype(np.float32), far.astype(np.float32)


@dataclass(frozen=True)
class Passage:
    """What rays meet: for each ray its transmittance, and the segments that absorb light, ordered by ray.

    Segment i of ray `ray[i]` runs from depth `start` to `end`; its signed distance changes linearly from `distance` to
    `end_distance`, and the optical depth from the ray's origin grows from `thickness` to `end_thickness`.
    """

    transmittance: Float32[np.ndarray, " ray"]
    softness: float
    ray: Int64[np.ndarray, " segment"]
    start: Float32[np.ndarray, " segment"]
    end: Float32[np.ndarray, " segment"]
    distance: Float32[np.ndarray, " segment"]
    end_distance: Float32[np.ndarray, " segment"]
    thickness: Float32[np.ndarray, " segment"]
    end_thickness: Float32[np.ndarray, " segment"]

    @property
    def alpha(self) -> Float32[np.ndarray, " ray"]:
        """Share of the light that the head replaces, 0 to 1."""
        return np.float32(1.0) - self.transmittance

    def depth_at(
        self, ray: Int64[np.ndarray, " query"], share: Float32[np.ndarray, " query"]
    ) -> Float32[np.ndarray, " query"]:
        """The depths at which rays have collected this share of their weights; each ray's alpha must exceed zero."""
        target = share.astype(np.float64) * self.alpha[ray]
        collected = _order(self.ray, -np.expm1(-self.end_thickness.astype(np.float64)))
        found = np.minimum(np.searchsorted(collected, _order(ray, target)), len(collected) - 1)
        part = self._part(found, -np.log1p(-target))
        depth: Float32[np.ndarray, " query"] = self.start[found] + part * (self.end - self.start)[found]
        return depth

    def _part(self, segment: Int64[np.ndarray, " query"], wanted: Float64[np.ndarray, " query"]) -> np.ndarray:
        """The part of a segment, 0 to 1, after which the optical depth is the wanted one."""
        gained = (self.end_thickness - self.thickness)[segment]
        share = np.clip((wanted - self.thickness[segment]) / gained, 0.0, 1.0)
        first, last = (
            values[segment].astype(np.float64) / self.softness for values in (self.distance, self.end_distance)
        )
        even = np.abs(last - first) < EVEN
        level = np.logaddexp(0.0, -first) * (1.0 - share) + np.logaddexp(0.0, -last) * share
        reached = -(level + np.log(-np.expm1(-np.maximum(level, 1e-300))))  # the inverse of softplus(-s)
        part = np.where(even, share, (reached - first) / np.where(even, 1.0, last - first))
        clipped: np.ndarray = np.clip(part, 0.0, 1.0)
        return clipped.astype(np.float32)


def _order(ray: Int64[np.ndarray, " place"], collected: Float64[np.ndarray, " place"]) -> Int64[np.ndarray, " place"]:
    """Integers that order places by ray, then by the weights collected; exact, whichever rays share a chunk."""
    order: Int64[np.ndarray, " place"] = (ray.astype(np.int64) << 40) + np.rint(collected * 2.0**39).astype(np.int64)
    return order


@one_thread()
def march(grid: DistanceGrid, origins: np.ndarray, directions: np.ndarray, softness: float) -> Passage:
    """What rays from `origins` along `directions` meet; depths are in units of a direction's length."""
    near, far = grid.span(origins, directions)
    ray = np.flatnonzero(near < far)
    rays = torch.from_numpy(ray)
    origin, heading = (torch.from_numpy(values[ray].astype(np.float32)) for values in (origins, directions))
    speed, total = heading.norm(dim=1), torch.zeros(len(origins))
    t, last, thickness = torch.from_numpy(near[ray]), torch.from_numpy(far[ray]), torch.zeros(len(ray))
    s, segments = grid.at(origin + t[:, None] * heading), [[torch.zeros(0, dtype=torch.int64), *[torch.zeros(0)] * 6]]
    while len(rays):
        end = torch.minimum(t + _leap(s, grid, softness) / speed, last)
        end_s = grid.at(origin + end[:, None] * heading)
        end_thickness = thickness + _extinction(s, end_s, softness) * (end - t) * speed
        absorbs = (end_thickness > thickness).nonzero()[:, 0]
        segments.append([v[absorbs] for v in (rays, t, end, s, end_s, thickness, end_thickness)])
        total[rays] = end_thickness
        going = ((end < last) & (end_thickness < -np.log(OPAQUE))).nonzero()[:, 0]
        rays, t, s, thickness = rays[going], end[going], end_s[going], end_thickness[going]
        origin, heading, speed, last = origin[going], heading[going], speed[going], last[going]
    columns = [torch.cat(column) for column in zip(*segments, strict=True)]
    order = torch.argsort(columns[0], stable=True)
    return Passage(torch.exp(-total).numpy(), softness, *(column[order].numpy() for column in columns))


def _leap(s: Tensor, grid: DistanceGrid, softness: float) -> Tensor:
    """A step, in world units, that skips no density; within the layer, short enough for a linear distance.

    Beyond the grid's reach, 0.45 of a value bounds the true distance of all points in its block.
    """
    shortest = max(1.5 * softness, 0.5 * grid.cell)
    free = torch.where(s > grid.reach, 0.45 * s, 0.8 * (s - 4.0 * softness))
    return free.clamp(min=shortest)


def _extinction(s0: Tensor, s1: Tensor, softness: float) -> Tensor:
    """Mean extinction, per world unit, where the distance changes linearly from s0 to s1; zero beyond REACH."""
    first, last = s0 / softness, s1 / softness
    even = (first - last).abs() < EVEN
    sloped = (softplus(-last) - softplus(-first)) / torch.where(even, 1.0, first - last)
    mean = torch.where(even, torch.sigmoid(-0.5 * (first + last)), sloped) / softness
    return torch.where(torch.minimum(first, last) < REACH, mean, 0.0)
