"""nerfstudio: the folder of one head, for its parser of `transforms.json`.

    transforms.json      a frame a view: OpenGL camera to world (x right, y up, z backward), own intrinsics in pixels
    images/000.png       RGBA with straight alpha
    normals/000.png      normals in the world frame, (n + 1) / 2 * 255

The world is the dataset's: y up, the face looks along +z. RGB of the dataset is composited on white, so colours are
divided by alpha here; composited on white again they are the dataset's, within two steps under mask 0.
There is no import: such a folder knows neither identity nor seed.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.dataset import HeadArrays, HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.exchange.formats import Told, head_arrays, json_text, new_folder, png


def export_nerfstudio(dataset: HeadDataset, head: str, target: Path, told: Told) -> None:
    """Write one head's views below `target`, which must be free. Raises ConfigError for a head that is not there."""
    if head not in dataset.ids:
        raise ConfigError(
            f"--head {head!r}: expected one of {len(dataset)} heads, {dataset.ids[0]} to {dataset.ids[-1]}"
        )
    arrays = head_arrays(dataset, dataset.ids.index(head))
    with new_folder(target) as folder:
        for kind in ("images", "normals"):
            (folder / kind).mkdir()
        colours = straight_alpha(arrays.rgb, arrays.mask)
        for view in range(dataset.views):
            (folder / "images" / f"{view:03d}.png").write_bytes(png(colours[view]))
            (folder / "normals" / f"{view:03d}.png").write_bytes(png(arrays.normals[view]))
            told(view + 1, dataset.views)
        (folder / "transforms.json").write_bytes(json_text(transforms(arrays, dataset)))


def transforms(head: HeadArrays, dataset: HeadDataset) -> dict[str, Any]:
    """What stands in `transforms.json`."""
    cameras = Cameras(
        cam2world=head.cam2world, intrinsics=head.intrinsics, azimuth_deg=head.azimuth, elevation_deg=head.elevation
    )
    images, normals = ([f"{kind}/{view:03d}.png" for view in range(len(head.rgb))] for kind in ("images", "normals"))
    about = {
        "head": head.id,
        "digest": dataset.digest,
        "licence": dataset.attributes.get("licence"),
        "world": "y up, the face looks along +z",
    }
    document = transforms_json(cameras, head.mask.shape[2], images, {"normals_file_path": normals})
    return {**document, "aabb_scale": 1, "spinmeround": about}


def straight_alpha(
    rgb: UInt8[np.ndarray, "view height width 3"], mask: UInt8[np.ndarray, "view height width"]
) -> UInt8[np.ndarray, "view height width 4"]:
    """Colours that give `rgb` when they are composited on white by `mask`; white where the mask is 0."""
    out = np.empty((*mask.shape, 4), np.uint8)
    for view, (picture, alpha) in enumerate(zip(rgb, mask, strict=True)):
        share = np.maximum(alpha, 1)[..., None] / 255
        colour = 255 - (255 - picture.astype(np.float64)) / share
        out[view, ..., :3] = np.where(alpha[..., None] > 0, np.clip(colour, 0, 255).round(), 255)
        out[view, ..., 3] = alpha
    return out
