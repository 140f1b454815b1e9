"""What a model has to beat: predictions of held-out views that no network makes.

`nearest_input_view` copies the given view whose camera is nearest in angle; its normals are turned along
with the camera, as if the head had turned with it. `mean_training_image` is, for each target camera, the
mean over the training heads' pictures from it, and the direction of the mean of their normals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals, encode_normals, world_normals_to_camera
from spinmeround.storage.dataset import HeadDataset


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """RGB and normals as on disk, and the mask where one is known (255 everywhere where none is)."""

    rgb: UInt8[np.ndarray, "view height width 3"]
    normals: UInt8[np.ndarray, "view height width 3"]
    mask: UInt8[np.ndarray, "view height width"]


def read_pictures(data: HeadDataset, subject: int, views: Sequence[int]) -> Pictures:
    """The true pictures of some views of a head."""
    arrays = data.read_views(subject, views, ("rgb", "normals", "mask"))
    return Pictures(rgb=arrays["rgb"], normals=arrays["normals"], mask=arrays["mask"])


def nearest_input_view(given: Pictures, given_cameras: Cameras, cameras: Cameras) -> Pictures:
    """For each of `cameras` the given view nearest in angle, its normals turned into that camera's frame."""
    forward, wanted = given_cameras.cam2world[:, :3, 2], cameras.cam2world[:, :3, 2]
    nearest = np.argmax(wanted @ forward.T, axis=1)
    normals = world_normals_to_camera(decode_normals(given.normals, given.mask), given_cameras)[nearest]
    turned = np.einsum("vij,vhwj->vhwi", cameras.cam2world[:, :3, :3], normals).astype(np.float32)
    mask = given.mask[nearest]
    return Pictures(rgb=given.rgb[nearest], normals=encode_normals(turned, mask), mask=mask)


class MeanTrainingImages:
    """Mean pictures over the heads `subjects`, by view; each view is computed once."""

    def __init__(self, data: HeadDataset, subjects: Sequence[int]) -> None:
        self._data, self._subjects = data, subjects
        self._means: dict[int, Pictures] = {}

    def __call__(self, views: Sequence[int]) -> Pictures:
        missing = [view for view in views if view not in self._means]
        if missing:
            self._means |= dict(zip(missing, self._mean(missing), strict=True))
        means = [self._means[view] for view in views]
        return Pictures(
            rgb=np.stack([mean.rgb for mean in means]),
            normals=np.stack([mean.normals for mean in means]),
            mask=np.stack([mean.mask for mean in means]),
        )

    def _mean(self, views: Sequence[int]) -> list[Pictures]:
        rgb: Float32[np.ndarray, "view height width 3"] | float = 0.0
        normals: Float32[np.ndarray, "view height width 3"] | float = 0.0
        for subject in self._subjects:
            pictures = read_pictures(self._data, subject, views)
            rgb = rgb + pictures.rgb.astype(np.float32) / len(self._subjects)
            normals = normals + decode_normals(pictures.normals, pictures.mask)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        mask = np.where(length[..., 0] > 0, 255, 0).astype(np.uint8)
        encoded = encode_normals(normals / np.maximum(length, 1e-6), mask)
        return [
            Pictures(rgb=image, normals=normal, mask=alpha)
            for image, normal, alpha in zip(np.rint(rgb).astype(np.uint8), encoded, mask, strict=True)
        ]
