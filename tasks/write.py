"""Write: one head in the dataset's own layout, a Zarr group of one subject.

The pixels' files are those of the stages render and normals, by hard links; cameras and embeddings are written here.
Publishing joins these groups in the same way, so pixels are encoded once and lie on the disk once.
"""

import numpy as np

from spinmeround.storage.dataset import join_head
from spinmeround.tasks.stage import Stage, StageJob


def _make(job: StageJob) -> None:
    render, normals = job.inputs["render"], job.inputs["normals"]
    with np.load(job.inputs["embed"] / "identity.npz", allow_pickle=False) as arrays:
        embeddings = {name: arrays[name][None] for name in ("identity", "identity_views")}
    cameras = job.sections["views"].cameras()
    rows = {
        "cam2world": cameras.cam2world[None],
        "intrinsics": cameras.intrinsics[None],
        "azimuth": cameras.azimuth_deg,
        "elevation": cameras.elevation_deg,
        "seed": np.array([job.head.seed], np.int64),
        "status": np.ones(1, np.uint8),
        **embeddings,
    }
    join_head(job.out, job.head.id, {"rgb": render, "mask": render, "normals": normals}, rows)


WRITE = Stage(name="write", version=2, reads=("views",), inputs=("render", "normals", "embed"), make=_make)
