"""Scores of a head's preview images: silhouettes, similarity of back and front, colour jumps. `SCORES` describes
them."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage
from skimage import morphology

from spinmeround.models.geometry.cameras import pixel_rays
from spinmeround.models.screening.evidence import Evidence

FACE_ROWS, FACE_COLUMNS = (0.34, 0.78), (0.28, 0.72)
"""Extent of the face in a frontal image, in sides of the image."""

SEAM_BIN, SEAM_BINS, SEAM_CELL, SEAM_TURN_DEG = 0.008, 24, 0.03, 6.0
"""Width of the slabs along a plane, their number, side of the patches (both in sides of the cube), and angle step."""

BRIGHTNESS = np.array([0.3, 0.5, 0.2], np.float32)
"""Weights of red, green and blue for brightness."""

ODD_CHROMA = 0.08
"""Difference of log chroma above which two colours differ."""

DARK = 12.0
"""Added to bytes before taking the logarithm, to reduce the weight of noise in dark regions."""


def silhouette_holes(evidence: Evidence) -> float:
    """Largest share of a preview's filled silhouette that is enclosed background."""
    shares = []
    for mask in evidence.previews.mask >= 128:
        filled = ndimage.binary_fill_holes(mask)
        shares.append((filled & ~mask).sum() / max(filled.sum(), 1))
    return float(max(shares))


def silhouette_pieces(evidence: Evidence) -> float:
    """Largest share of a preview's silhouette outside its largest piece."""
    shares = []
    for mask in evidence.previews.mask >= 128:
        labels, _ = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        shares.append(1.0 - sizes.max() / sizes.sum() if len(sizes) else 0.0)
    return float(max(shares))


def silhouette_spikes(evidence: Evidence) -> float:
    """Largest share of a preview's silhouette removed by opening with a disk of 1/32 of the side."""
    masks = evidence.previews.mask >= 128
    disk = morphology.disk(max(1, masks.shape[-1] // 32))  # type: ignore[no-untyped-call]
    shares = []
    for mask in masks:
        padded = np.pad(mask, disk.shape[0], mode="edge")
        opened = ndimage.binary_opening(padded, disk)
        shares.append((padded & ~opened).sum() / max(padded.sum(), 1))
    return float(max(shares))


def depth_to_width(evidence: Evidence) -> float:
    """Widest row of the side silhouette divided by the widest row of the frontal one; ignores the lowest quarter."""

    def widest(azimuth_deg: float) -> int:
        mask = evidence.previews.mask[evidence.view(azimuth_deg)] >= 128
        return max(int(mask[: len(mask) * 3 // 4].sum(axis=1).max()), 1)

    return widest(90.0) / widest(0.0)


def face_at_back(evidence: Evidence) -> float:
    """Correlation of fine brightness structure on the back of the head with that of the face, -1 to 1."""
    brightness = np.log(evidence.previews.rgb.astype(np.float32) @ BRIGHTNESS + np.float32(DARK))
    return _front_in_back(evidence, brightness)


def relief_at_back(evidence: Evidence) -> float:
    """Correlation of fine depth structure on the back of the head with that of the face, -1 to 1."""
    return _front_in_back(evidence, np.nan_to_num(evidence.previews.depth, nan=0.0))


def recognition_at_back(evidence: Evidence) -> float | None:
    """Cosine between recognition embeddings of the face and of the same place on the back; None without a network."""
    return evidence.back_similarity


def one_sided_colour(evidence: Evidence) -> float:
    """Share of the visible surface whose hue and saturation are absent nearby in the mirrored view.

    Ignores brightness, because light does not always come from the front.
    """
    logs = np.log(evidence.previews.rgb.astype(np.float32) + np.float32(DARK))
    chroma = logs - logs.mean(axis=-1, keepdims=True)
    solid = ndimage.minimum_filter(evidence.previews.mask, (1, 3, 3)) > 250
    reach = max(1, solid.shape[-1] // 21)
    odd = known = 0
    for view, azimuth in enumerate(evidence.cameras.azimuth_deg):
        twin = evidence.view(-float(azimuth))
        other, there = chroma[twin, :, ::-1], solid[twin, :, ::-1]
        nearest = np.full(solid.shape[1:], np.inf, np.float32)
        for down in range(-reach, reach + 1):
            for across in range(-reach, reach + 1):
                shift = (down, across)
                apart = np.abs(chroma[view] - np.roll(other, shift, (0, 1))).max(axis=-1)
                nearest = np.minimum(nearest, np.where(np.roll(there, shift, (0, 1)), apart, np.inf))
        seen = solid[view] & np.isfinite(nearest)
        odd, known = odd + int((nearest[seen] > ODD_CHROMA).sum()), known + int(seen.sum())
    return odd / max(known, 1)


def colour_seam(evidence: Evidence) -> float:
    """Jump of log brightness across an upright plane, shared by three quarters of the patches along it.

    Planes at all angles and offsets divide the visible surface; patches on both sides of each plane are compared per
    channel. 0.1 is a jump of 10 percent.
    """
    points, colours = _visible_surface(evidence)
    angles = np.radians(np.arange(0.0, 180.0, SEAM_TURN_DEG))
    return max(_jump_across(points, colours, float(angle)) for angle in angles)


def _front_in_back(evidence: Evidence, pictures: Float[np.ndarray, "view height width"]) -> float:
    """Largest correlation of the face's fine structure with that of the back, over small shifts."""
    side = pictures.shape[-1]
    (front, seen), (back, seen_back) = (_fine_structure(evidence, pictures, azimuth) for azimuth in (0.0, 180.0))
    face = np.zeros((side, side), bool)
    rows, columns = (slice(*(round(share * side) for share in part)) for part in (FACE_ROWS, FACE_COLUMNS))
    face[rows, columns] = True
    reach = range(-max(1, side // 32), max(1, side // 32) + 1)
    shifts = [(down, across) for down in reach for across in reach]
    return max(
        _correlation(front, np.roll(back, shift, (0, 1)), face & seen & np.roll(seen_back, shift, (0, 1)))
        for shift in shifts
    )


def _fine_structure(
    evidence: Evidence, pictures: Float[np.ndarray, "view height width"], azimuth_deg: float
) -> tuple[Float32[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """One preview minus its blur inside the mask, and where it is defined."""
    view = evidence.view(azimuth_deg)
    side = pictures.shape[-1]
    seen = ndimage.binary_erosion(evidence.previews.mask[view] > 250, iterations=max(1, side // 32))
    weight = ndimage.gaussian_filter(seen.astype(np.float32), side / 16)
    blurred = ndimage.gaussian_filter(np.where(seen, pictures[view], 0.0).astype(np.float32), side / 16)
    detail = np.where(seen, pictures[view] - blurred / np.maximum(weight, 1e-3), 0.0)
    return detail.astype(np.float32), seen


def _correlation(
    a: Float32[np.ndarray, "height width"], b: Float32[np.ndarray, "height width"], where: Bool[np.ndarray, "h w"]
) -> float:
    """Pearson's correlation; zero for fewer than 40 pixels or constant values."""
    if where.sum() < 40:
        return 0.0
    first, second = a[where] - a[where].mean(), b[where] - b[where].mean()
    scale = np.sqrt((first * first).sum() * (second * second).sum())
    return float((first * second).sum() / scale) if scale > 1e-9 else 0.0


def _visible_surface(evidence: Evidence) -> tuple[Float32[np.ndarray, "point 3"], Float32[np.ndarray, "point 3"]]:
    """Surface points that the previews show away from outlines, in sides of the cube, and their log colours."""
    previews, cameras = evidence.previews, evidence.cameras
    origins, directions = pixel_rays(cameras, previews.depth.shape[-1])
    along = np.einsum("vhwi,vi->vhw", directions, cameras.cam2world[:, :3, 2])
    points = origins + (previews.depth / along)[..., None] * directions
    solid = np.isfinite(previews.depth) & (ndimage.minimum_filter(previews.mask, (1, 3, 3)) > 250)
    return (points[solid] / evidence.box_warp).astype(np.float32), np.log(
        previews.rgb[solid].astype(np.float32) + np.float32(DARK)
    )


def _jump_across(
    points: Float32[np.ndarray, "point 3"], colours: Float32[np.ndarray, "point 3"], angle: float
) -> float:
    """The largest jump, over offsets and channels, across planes whose normal has this angle (rad) to the x axis."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    slab = np.floor((points[:, 0] * cos + points[:, 2] * sin) / SEAM_BIN).astype(int) + SEAM_BINS // 2
    across = points[:, 2] * cos - points[:, 0] * sin
    patch = _cell(across) * _cells() + _cell(points[:, 1])
    near = (slab >= 0) & (slab < SEAM_BINS)
    index, patches = slab[near] * _cells() ** 2 + patch[near], _cells() ** 2
    shape, length = (SEAM_BINS, patches), SEAM_BINS * patches
    count = np.bincount(index, minlength=length).reshape(shape)
    sums = np.stack(
        [np.bincount(index, weights=channel, minlength=length).reshape(shape) for channel in colours[near].T]
    )
    pairs, totals = count[:-1] + count[1:], sums[:, :-1] + sums[:, 1:]  # slabs two bins wide
    left, right = slice(None, -3), slice(3, None)  # skips the bin in between, whose pixels mix both sides
    both = (pairs[left] > 0) & (pairs[right] > 0)
    jump = totals[:, right] / np.maximum(pairs[right], 1) - totals[:, left] / np.maximum(pairs[left], 1)
    return _shared_jump(np.where(both, jump, np.nan), both.sum(axis=1))


def _shared_jump(jumps: Float[np.ndarray, "channel offset patch"], known: Int[np.ndarray, " offset"]) -> float:
    """The largest jump that three quarters of an offset's known patches reach or exceed, with the same sign."""
    ordered = np.sort(jumps, axis=-1)
    offsets = np.flatnonzero(known >= 20)
    lower = ordered[:, offsets, (0.25 * (known[offsets] - 1)).astype(int)]
    upper = ordered[:, offsets, np.ceil(0.75 * (known[offsets] - 1)).astype(int)]
    return float(np.maximum(lower, -upper).max(initial=0.0))


def _cells() -> int:
    """Number of patches along each axis."""
    return int(np.ceil(1.0 / SEAM_CELL))


def _cell(coordinate: Float32[np.ndarray, " point"]) -> Int[np.ndarray, " point"]:
    """Index of the patch that contains a coordinate."""
    cell: Int[np.ndarray, " point"] = np.clip(((coordinate + 0.5) / SEAM_CELL).astype(int), 0, _cells() - 1)
    return cell
