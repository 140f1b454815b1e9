"""Images of some views of a head, as they are on disk: those of a dataset, or a model's predictions of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from spinmeround.storage.dataset import HeadDataset


@dataclass(frozen=True, kw_only=True)
class ViewImages:
    """RGB, encoded world normals and mask of some views; the mask is 255 everywhere if none is known."""

    rgb: UInt8[np.ndarray, "view height width 3"]
    normals: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]


def read_views(dataset: HeadDataset, subject: int, views: Sequence[int]) -> ViewImages:
    """Read the images of some views of one head. Raises DatasetError if a file is missing or damaged."""
    return ViewImages(**dataset.read_views(subject, views, ("rgb", "normals", "mask")))
