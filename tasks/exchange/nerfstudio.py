"""nerfstudio: a folder with the views of one head, for the parser of `transforms.json`.

    transforms.json      one frame per view: OpenGL cam2world (x right, y up, z backward), intrinsics in pixels
    images/000.png       RGBA with straight alpha
    normals/000.png      normals in the world frame, (n + 1) / 2 * 255, if the head has any

The world frame is that of the dataset: y up, the face looks along +z. The format has no identity and no seed, so its
import is that of captured heads (`tasks.captured`).
"""

from pathlib import Path
from typing import Any

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.transforms import transforms_json
from spinmeround.storage.dataset import HeadArrays, HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.exchange.formats import OnProgress, head_arrays, json_text, new_folder, png
from spinmeround.tasks.pictures.webp import cut_out


def export_nerfstudio(dataset: HeadDataset, head: str, target: Path, on_progress: OnProgress) -> None:
    """Write the views of one head to the new folder `target`. Raises ConfigError for an unknown head."""
    if head not in dataset.ids:
        raise ConfigError(
            f"--head {head!r}: expected the id of one of {len(dataset)} heads, {dataset.ids[0]} to {dataset.ids[-1]}"
        )
    arrays = head_arrays(dataset, dataset.ids.index(head))
    with new_folder(target) as folder:
        has_normals = dataset.has_normals(dataset.ids.index(head))
        for kind in ("images", "normals") if has_normals else ("images",):
            (folder / kind).mkdir()
        colours = cut_out(arrays.rgb, arrays.mask)
        for view in range(dataset.views):
            (folder / "images" / f"{view:03d}.png").write_bytes(png(colours[view]))
            if has_normals:
                (folder / "normals" / f"{view:03d}.png").write_bytes(png(arrays.normals[view]))
            on_progress(view + 1, dataset.views)
        (folder / "transforms.json").write_bytes(json_text(transforms(arrays, dataset)))


def transforms(head: HeadArrays, dataset: HeadDataset) -> dict[str, Any]:
    """The content of `transforms.json`."""
    cameras = Cameras(
        cam2world=head.cam2world, intrinsics=head.intrinsics, azimuth_deg=head.azimuth, elevation_deg=head.elevation
    )
    images, normals = ([f"{kind}/{view:03d}.png" for view in range(len(head.rgb))] for kind in ("images", "normals"))
    more = {"normals_file_path": normals} if dataset.has_normals(dataset.ids.index(head.id)) else {}
    about = {
        "head": head.id,
        "digest": dataset.digest,
        "licence": dataset.attributes.get("licence"),
        "world": "y up, the face looks along +z",
    }
    document = transforms_json(cameras, head.mask.shape[2], images, more)
    return {**document, "aabb_scale": 1, "spinmeround": about}
