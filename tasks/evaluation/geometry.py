"""The depths of true views, by which the consistency of predicted ones is measured.

Datasets hold no depth. The visual hull of the true masks of all views of a head stands in for it: it needs neither the
generator nor a store, so a head has the same value wherever it is evaluated. `tests/models/geometry/test_hull.py`
bounds its error in depth.
"""

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.extras import missing_extra

MOST_GAP_DEG = 60.0
"""Largest gap between azimuths of the views of a head; wider ones leave its depth open."""


def target_depth(
    data: HeadDataset, subject: int, targets: list[int], side: int
) -> Float32[np.ndarray, "view height width"] | Missing:
    """Depths of these views along their z axes, for pictures of this side, NaN in the background; or why there are
    none."""
    cameras = Cameras(**data.cameras(subject))
    try:
        from spinmeround.models.geometry.depth import mesh_depth
        from spinmeround.models.geometry.hull import largest_gap_deg, visual_hull
    except ModuleNotFoundError as error:
        if (hint := missing_extra(error)) is None:
            raise
        return Missing(f"the visual hull {hint}")
    if (gap := largest_gap_deg(cameras)) > MOST_GAP_DEG:
        return Missing(f"the views leave {gap:.0f} degrees of azimuth open, of which masks tell no shape")
    mask = data.read_views(subject, range(data.views), ("mask",))["mask"]
    if any((each >= 128).all() for each in mask):
        return Missing("the background stays in the pictures, so masks have no outline")
    try:
        hull = visual_hull(cameras, mask)
    except ValueError:
        return Missing("the masks are not those of one solid")
    return mesh_depth(hull, cameras[targets], side)
