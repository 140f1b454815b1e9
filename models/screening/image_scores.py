"""Scores of a head's preview images: silhouettes, likeness of back and front, colour seams; see `SCORES`."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from scipy import ndimage
from skimage import morphology

from spinmeround.models.screening.evidence import Evidence
from spinmeround.models.screening.frame import FACE_DEPTH
from spinmeround.models.screening.symmetry_scores import DARK

FACE_UP, FACE_DOWN, FACE_ACROSS = 1.1, 1.7, 1.4
"""Extent of the face above and below the eyes and to each side, in distances from eyes to mouth."""

SEAM_BIN, SEAM_BINS, SEAM_CELL, SEAM_TURN_DEG = 0.008, 24, 0.03, 6.0
"""Width of the slabs along a plane, their number, side of the patches (both in sides of the cube), and angle step."""

BRIGHTNESS = np.array([0.3, 0.5, 0.2], np.float32)
"""Weights of red, green and blue for brightness."""


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
    reach = range(-max(1, side // 32), max(1, side // 32) + 1)
    (front, seen), (back, seen_back) = (_patch(evidence, pictures, turned, reach.stop - 1) for turned in (False, True))
    inner = np.zeros(front.shape, bool)
    inner[reach.stop - 1 : reach.start, reach.stop - 1 : reach.start] = True
    return max(
        _correlation(
            front, np.roll(back, (down, across), (0, 1)), inner & seen & np.roll(seen_back, (down, across), (0, 1))
        )
        for down in reach
        for across in reach
    )


def _patch(
    evidence: Evidence, pictures: Float[np.ndarray, "view height width"], turned: bool, margin: int
) -> tuple[Float32[np.ndarray, "row column"], Bool[np.ndarray, "row column"]]:
    """Fine structure on an upright grid in front of the face, or `turned` behind the head, and where it is defined.

    The grid has the pitch of the preview's pixels and follows the head's frame.
    """
    frame, camera = evidence.frame, evidence.cameras[[0]]
    distance = np.linalg.norm(camera.cam2world[0, :3, 3]) / evidence.box_warp
    pitch = float(distance / camera.intrinsics[0, 0, 0] / pictures.shape[-1])
    up, down, across = (int(np.ceil(share * frame.face / pitch)) for share in (FACE_UP, FACE_DOWN, FACE_ACROSS))
    y, x = np.meshgrid(
        pitch * np.arange(up + margin, -down - margin - 1, -1),
        pitch * np.arange(-across - margin, across + margin + 1),
        indexing="ij",
    )
    grid = np.stack([x, y, np.full(x.shape, FACE_DEPTH * frame.face)], axis=-1)
    if turned:
        grid *= np.array([-1.0, 1.0, -1.0])
    azimuth = frame.yaw_deg + 180.0 * turned
    pixels, _ = evidence.seen_from(evidence.view(azimuth), grid.reshape(-1, 3))
    detail, seen = _fine_structure(evidence, pictures, azimuth)
    sampled = ndimage.map_coordinates(detail, pixels.T, order=1).reshape(x.shape)
    known = ndimage.map_coordinates(seen.astype(np.float32), pixels.T, order=1).reshape(x.shape) > 0.99
    return sampled, known


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
    """Points of the head's frame that the previews show away from outlines, and their log colours."""
    seen = evidence.visible
    return evidence.surface[seen], np.log(evidence.previews.rgb[seen].astype(np.float32) + np.float32(DARK))


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
