"""Views of a dataset's head as conditioning views of the pipeline."""

from collections.abc import Sequence

import numpy as np

from spinmeround.models.diffusion.pipeline import PosedViews
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.loading.view_images import read_views


def read_posed_views(dataset: HeadDataset, subject: int, views: Sequence[int]) -> PosedViews:
    """Read some views of one head with their cameras and normals; images and encoded normals in [0, 1].

    A head without normals gives views without any, for which the pipeline infers them.
    """
    images = read_views(dataset, subject, views)
    return PosedViews(
        cameras=Cameras(**dataset.cameras(subject))[list(views)],
        images=images.rgb.astype(np.float32) / 255,
        normals=images.normals.astype(np.float32) / 255 if dataset.has_normals(subject) else None,
    )
