"""A head unwrapped onto the grid of `models.screening.grid`, so that heads can be compared cell by cell."""

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy import ndimage

from spinmeround.models.screening.evidence import Evidence, Map
from spinmeround.models.screening.grid import AZIMUTHS, HIGH_ROWS, LOW_ROWS, LOWEST, Rays, Unwrapped
from spinmeround.models.screening.roughness_scores import fine_colour, fine_relief
from spinmeround.models.screening.symmetry_scores import DARK

_STEP, _REACH = 0.008, 0.42
"""Step along a ray and its length, in sides of the cube."""

_SHOWN = 0.02
"""Distance within which a preview shows a surface point, in sides of the cube."""


def unwrap(evidence: Evidence) -> Unwrapped:
    """All channels of a head."""
    rays = Rays.of(evidence.frame)
    radius, solidity = _along_rays(evidence, rays)
    surface = rays.starts + radius[..., None] * rays.directions
    logs = np.log(evidence.previews.rgb.astype(np.float32) + np.float32(DARK))
    rough = [np.log1p(evidence.once(each)) for each in (fine_relief, fine_colour)]
    seen = _from_previews(evidence, surface, np.stack([*np.moveaxis(logs, -1, 0), *rough]))
    seen[:, radius <= 0.0] = np.nan
    return np.concatenate([radius[None], solidity[None], seen]).astype(np.float32)


def over_previews(evidence: Evidence, cells: Float[np.ndarray, "row azimuth"]) -> Map:
    """Values of cells at the visible surface; zero elsewhere."""
    x, y, z = np.moveaxis(evidence.surface[evidence.visible].astype(np.float64), -1, 0)
    column = (np.degrees(np.arctan2(x, z)) + 180.0) * AZIMUTHS / 360.0 - 0.5
    low = LOW_ROWS * (1.0 + y / (LOWEST * evidence.frame.face)) - 0.5
    high = LOW_ROWS + HIGH_ROWS * np.arctan2(y, np.hypot(x, z)) / (0.5 * np.pi) - 0.5
    wrapped = np.concatenate([cells[:, -1:], cells, cells[:, :1]], axis=1)
    shown = np.zeros(evidence.visible.shape, np.float32)
    shown[evidence.visible] = ndimage.map_coordinates(
        wrapped, np.stack([np.where(y < 0.0, low, high), column + 1.0]), order=1, mode="nearest"
    )
    return shown


def _along_rays(
    evidence: Evidence, rays: Rays
) -> tuple[Float64[np.ndarray, "row azimuth"], Float64[np.ndarray, "row azimuth"]]:
    """Distance to the outermost surface, zero where a ray meets none, and the share of the way that is inside."""
    solid = evidence.solid
    steps = _STEP * np.arange(int(_REACH / _STEP) + 1)
    points = rays.starts[..., None, :] + steps[:, None] * rays.directions[..., None, :]
    signed = (solid.outside_distance - solid.inside_distance).astype(np.float32)
    found = solid.at(signed, points.reshape(-1, 3)).reshape(points.shape[:-1])
    low, high = np.array(solid.corner), np.array(solid.corner) + solid.voxel * (np.array(solid.inside.shape) - 1)
    found[((points < low) | (points > high)).any(axis=-1)] = 1.0
    within = found < 0.0
    last = within.shape[-1] - 1 - within[..., ::-1].argmax(axis=-1)
    beyond = np.minimum(last + 1, within.shape[-1] - 1)
    a, b = (np.take_along_axis(found, each[..., None], axis=-1)[..., 0] for each in (last, beyond))
    part = np.clip(-a / np.maximum(b - a, 1e-9), 0.0, 1.0)
    radius = np.where(within.any(axis=-1), steps[last] + _STEP * part, 0.0)
    return radius, within.sum(axis=-1) / np.maximum(last + 1.0, 1.0)


def _from_previews(
    evidence: Evidence, surface: Float64[np.ndarray, "row azimuth 3"], pictures: Float32[np.ndarray, "c view h w"]
) -> Float64[np.ndarray, "c row azimuth"]:
    """Pictures at surface points, from the nearer of the two previews around each that shows it; else NaN."""
    points = surface.reshape(-1, 3)
    azimuth = np.degrees(np.arctan2(points[:, 0], points[:, 2])) + evidence.frame.yaw_deg
    apart = np.abs((evidence.cameras.azimuth_deg[:, None] - azimuth + 180.0) % 360.0 - 180.0)
    nearest = np.argsort(apart, axis=0, kind="stable")[:2]
    found = np.full((len(pictures), len(points)), np.nan)
    for view in range(len(evidence.cameras)):
        for rank in (1, 0):  # the nearest view overwrites the other
            chosen = np.flatnonzero(nearest[min(rank, len(nearest) - 1)] == view)
            taken = _from_view(evidence, view, points[chosen], pictures[:, view])
            if rank == 0:
                known = np.isfinite(taken[0])
                found[:, chosen[known]] = taken[:, known]
            else:
                empty = np.isnan(found[0, chosen])
                found[:, chosen[empty]] = taken[:, empty]
    return found.reshape(len(pictures), *surface.shape[:2])


def _from_view(
    evidence: Evidence, view: int, points: Float64[np.ndarray, "point 3"], pictures: Float32[np.ndarray, "c h w"]
) -> Float64[np.ndarray, "c point"]:
    """Pictures of one preview at points; NaN where it does not show them."""
    pixels, depths = evidence.seen_from(view, points)
    row, column = np.clip(np.rint(pixels), 0, pictures.shape[-1] - 1).astype(int).T
    there = np.nan_to_num(evidence.previews.depth[view, row, column] / evidence.box_warp, nan=9.0)
    shown = (np.abs(there - depths) < _SHOWN) & evidence.visible[view, row, column]
    values = [ndimage.map_coordinates(picture, pixels.T, order=1, mode="nearest") for picture in pictures]
    return np.where(shown, np.array(values, np.float64).reshape(len(pictures), -1), np.nan)
