"""Baselines of the evaluation: predictions of held-out views without a network.

`nearest_input_view` copies the conditioning view whose camera is nearest in angle; its normals turn with the camera, as
if the head had turned with it. `mean_training_image` is the mean over the training heads' images from the target
camera, with the direction of the mean of their normals.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals, encode_normals, world_normals_to_camera
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.loading.view_images import ViewImages, read_views


def nearest_input_view(given: ViewImages, given_cameras: Cameras, cameras: Cameras) -> ViewImages:
    """For each of `cameras` the conditioning view nearest in angle, its normals turned into that camera's frame."""
    forward, wanted = given_cameras.cam2world[:, :3, 2], cameras.cam2world[:, :3, 2]
    nearest = np.argmax(wanted @ forward.T, axis=1)
    normals = world_normals_to_camera(decode_normals(given.normals, given.mask), given_cameras)[nearest]
    turned = np.einsum("vij,vhwj->vhwi", cameras.cam2world[:, :3, :3], normals).astype(np.float32)
    mask = given.mask[nearest]
    return ViewImages(rgb=given.rgb[nearest], normals=encode_normals(turned, mask), mask=mask)


class MeanTrainingImages:
    """Mean images over the heads `subjects`, by view; each view is computed once."""

    def __init__(self, data: HeadDataset, subjects: Sequence[int]) -> None:
        self._data, self._subjects = data, subjects
        self._means: dict[int, ViewImages] = {}

    def __call__(self, views: Sequence[int]) -> ViewImages:
        """The mean images of these views."""
        missing = [view for view in views if view not in self._means]
        if missing:
            self._means |= dict(zip(missing, self._compute(missing), strict=True))
        means = [self._means[view] for view in views]
        return ViewImages(
            rgb=np.concatenate([mean.rgb for mean in means]),
            normals=np.concatenate([mean.normals for mean in means]),
            mask=np.concatenate([mean.mask for mean in means]),
        )

    def _compute(self, views: Sequence[int]) -> list[ViewImages]:
        """The mean images of these views, one `ViewImages` per view."""
        rgb: Float32[np.ndarray, "view height width 3"] | float = 0.0
        side = (self._data.sizes["height"], self._data.sizes["width"], 3)
        normals = np.zeros((len(views), *side), np.float32)
        for subject in self._subjects:
            images = read_views(self._data, subject, views)
            rgb = rgb + images.rgb.astype(np.float32) / len(self._subjects)
            if self._data.has_normals(subject):
                normals = normals + decode_normals(images.normals, images.mask)
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        mask = np.where(length[..., 0] > 0, 255, 0).astype(np.uint8)
        encoded = encode_normals(normals / np.maximum(length, 1e-6), mask)
        return [
            ViewImages(rgb=image[None], normals=normal[None], mask=alpha[None])
            for image, normal, alpha in zip(np.rint(rgb).astype(np.uint8), encoded, mask, strict=True)
        ]
