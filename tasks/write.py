"""Write: one head in the dataset's own layout, a Zarr group of one subject.

Publishing joins these groups by linking their shards, so the pixels are encoded here, once.
"""

from pathlib import Path

import numpy as np

from models.geometry.cameras import ViewGrid
from storage.dataset import write_head
from storage.records import HeadArrays
from tasks.stage import Head, Stage, StageJob


def head_arrays(head: Head, views: ViewGrid, render: Path, normals: Path, embed: Path) -> HeadArrays:
    """All arrays of one head from the folders of its artifacts."""
    with np.load(render / "views.npz", allow_pickle=False) as arrays:
        rgb, mask = arrays["rgb"], arrays["mask"]
    with np.load(normals / "normals.npz", allow_pickle=False) as arrays:
        maps = arrays["normals"]
    with np.load(embed / "identity.npz", allow_pickle=False) as arrays:
        identity, identity_views = arrays["identity"], arrays["identity_views"]
    cameras = views.cameras()
    return HeadArrays(
        id=head.id,
        seed=head.seed,
        rgb=rgb,
        mask=mask,
        normals=maps,
        cam2world=cameras.cam2world,
        intrinsics=cameras.intrinsics,
        azimuth=cameras.azimuth_deg,
        elevation=cameras.elevation_deg,
        identity=identity,
        identity_views=identity_views,
    )


def _make(job: StageJob) -> None:
    inputs = job.inputs
    arrays = head_arrays(job.head, job.sections["views"], inputs["render"], inputs["normals"], inputs["embed"])
    write_head(job.out, arrays)


WRITE = Stage(name="write", version=1, reads=("views",), inputs=("render", "normals", "embed"), make=_make)
