"""Projects 3D Gaussians to Gaussians in the image, as gsplat does: the EWA splat of Zwicker et al. (2001).

Image positions are in pixels (x right, y down); pixel centres are at i + 0.5. A camera here is the matrix from the
world to OpenCV camera axes and an intrinsic matrix in pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.reconstruction.gaussians import Gaussians, covariances

BLUR = 0.3
"""Variance that is added to the image's Gaussians, in square pixels, so that none falls between the pixels."""
NEAR = 0.01
"""Smallest depth of a visible mean, in world units."""
MARGIN = 0.3
"""Part of half the field of view by which a mean may lie outside of the image before its Jacobian is clamped."""
EXTENT = 3.33
"""Standard deviations to which a Gaussian is drawn: beyond them its alpha is below 1/255."""


@dataclass(frozen=True, kw_only=True)
class PixelCamera:
    """One camera of a square picture: `world2cam` with OpenCV axes, `intrinsics` in pixels."""

    world2cam: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    side: int

    @property
    def position(self) -> Float[Tensor, "3"]:
        """Position in the world."""
        return -self.world2cam[:3, :3].mT @ self.world2cam[:3, 3]


@dataclass(frozen=True, kw_only=True)
class Projected:
    """Gaussians in an image: means in pixels, inverse covariances (xx, xy, yy), and depths along the camera's z axis.

    `radii` are the half sides of the boxes outside of which a Gaussian is invisible, in whole pixels; 0 if none of it
    is in the image.
    """

    means: Float[Tensor, "gaussian 2"]
    conics: Float[Tensor, "gaussian 3"]
    depths: Float[Tensor, " gaussian"]
    radii: Float[Tensor, "gaussian 2"]

    @property
    def visible(self) -> Bool[Tensor, " gaussian"]:
        """Gaussians that reach into the image."""
        return (self.radii > 0).all(dim=-1)


def pixel_cameras(cameras: Cameras, side: int, like: Tensor | None = None) -> list[PixelCamera]:
    """The cameras for pictures of `side` pixels, with the dtype and device of a tensor (default: float32, CPU)."""
    world2cam = np.linalg.inv(cameras.cam2world.astype(np.float64))
    scaled = np.diag([side, side, 1.0]) @ cameras.intrinsics.astype(np.float64)
    like = torch.zeros(1) if like is None else like
    matrices = zip(torch.from_numpy(world2cam).to(like), torch.from_numpy(scaled).to(like), strict=True)
    return [PixelCamera(world2cam=pose, intrinsics=lens, side=side) for pose, lens in matrices]


def project_gaussians(gaussians: Gaussians, camera: PixelCamera) -> Projected:
    """Means, inverse covariances, depths and extents in the image."""
    rotation = camera.world2cam[:3, :3]
    at = gaussians.means @ rotation.mT + camera.world2cam[:3, 3]  # gaussian 3
    flattened = _jacobians(at, camera) @ rotation  # gaussian 2 3
    spread = flattened @ covariances(gaussians) @ flattened.mT  # gaussian 2 2
    xx, xy, yy = spread[:, 0, 0] + BLUR, spread[:, 0, 1], spread[:, 1, 1] + BLUR
    determinant = (xx * yy - xy * xy).clamp_min(1e-10)
    homogeneous = at @ camera.intrinsics.mT
    means = homogeneous[:, :2] / homogeneous[:, 2:]
    return Projected(
        means=means,
        conics=torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None],
        depths=at[:, 2],
        radii=_radii(means.detach(), torch.stack([xx, yy], dim=-1).detach(), at[:, 2].detach(), camera.side),
    )


def _jacobians(at: Float[Tensor, "gaussian 3"], camera: PixelCamera) -> Float[Tensor, "gaussian 2 3"]:
    """Derivatives of the image position by the position in the camera (Zwicker et al. 2001, equation 34).

    Far outside of the image they would explode, so there they are those at the margin.
    """
    focal = camera.intrinsics.diagonal()[:2]
    centre = camera.intrinsics[:2, 2]
    margin = MARGIN * 0.5 * camera.side / focal
    slopes = at[:, :2] / at[:, 2:]
    slopes = torch.minimum(torch.maximum(slopes, -centre / focal - margin), (camera.side - centre) / focal + margin)
    x, y = (focal / at[:, 2:]).unbind(-1)
    along = -focal * slopes / at[:, 2:]
    zero = torch.zeros_like(x)
    rows = torch.stack([x, zero, along[:, 0]], dim=-1), torch.stack([zero, y, along[:, 1]], dim=-1)
    return torch.stack(rows, dim=-2)


def _radii(
    means: Float[Tensor, "gaussian 2"],
    variances: Float[Tensor, "gaussian 2"],
    depths: Float[Tensor, " gaussian"],
    side: int,
) -> Float[Tensor, "gaussian 2"]:
    radii = (EXTENT * variances.sqrt()).ceil()
    inside = ((means + radii > 0) & (means - radii < side)).all(dim=-1) & (depths > NEAR)
    return torch.where(inside[:, None], radii, 0.0)
