"""3D Gaussians as 3DGS stores them (Kerbl et al. 2023), in the world frame of `models.geometry.cameras`.

A Gaussian has a mean, a rotation and the logarithms of three scales, which make its covariance R S S^T R^T, the logit
of its opacity, and the coefficients of spherical harmonics of its colour. Quaternions are (w, x, y, z) and need not
have unit length. A colour is max(0, 1/2 + sum of the harmonics in the direction from the camera to the mean).
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

SH_0 = 0.28209479177387814
"""The harmonic of degree 0, 1 / (2 sqrt(pi))."""


@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """Gaussians by their parameters; `harmonics` has (degree + 1)^2 coefficients for each colour channel."""

    means: Float[Tensor, "gaussian 3"]
    quaternions: Float[Tensor, "gaussian 4"]
    log_scales: Float[Tensor, "gaussian 3"]
    opacity_logits: Float[Tensor, " gaussian"]
    harmonics: Float[Tensor, "gaussian basis 3"]

    def __len__(self) -> int:
        return len(self.means)

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return math.isqrt(self.harmonics.shape[1]) - 1

    def to(self, *args: object) -> "Gaussians":
        """All tensors moved or cast as by `Tensor.to`."""
        return Gaussians(**{each.name: getattr(self, each.name).to(*args) for each in fields(self)})

    def detach(self) -> "Gaussians":
        """All tensors without gradients."""
        return Gaussians(**{each.name: getattr(self, each.name).detach() for each in fields(self)})


def rotation_matrices(quaternions: Float[Tensor, "gaussian 4"]) -> Float[Tensor, "gaussian 3 3"]:
    """Rotations of quaternions (w, x, y, z) of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def covariances(gaussians: Gaussians) -> Float[Tensor, "gaussian 3 3"]:
    """R S S^T R^T of each Gaussian (Kerbl et al. 2023, equation 6)."""
    axes = rotation_matrices(gaussians.quaternions) * gaussians.log_scales.exp()[:, None]  # gaussian 3 3
    return axes @ axes.mT


def colours(gaussians: Gaussians, position: Float[Tensor, "3"]) -> Float[Tensor, "gaussian 3"]:
    """Colours as a camera at `position` sees them, 0 to 1 for colours of a picture, not negative."""
    if gaussians.degree == 0:
        return (0.5 + SH_0 * gaussians.harmonics[:, 0]).clamp_min(0)
    directions = torch.nn.functional.normalize(gaussians.means - position, dim=-1)
    basis = harmonic_basis(directions, gaussians.degree)
    return (0.5 + (basis[..., None] * gaussians.harmonics).sum(dim=1)).clamp_min(0)


def harmonics_of_colours(colours: Float[Tensor, "gaussian 3"], degree: int) -> Float[Tensor, "gaussian basis 3"]:
    """Coefficients that show a colour of 0 to 1 from all sides."""
    found = colours.new_zeros(len(colours), (degree + 1) ** 2, 3)
    found[:, 0] = (colours - 0.5) / SH_0
    return found


def harmonic_basis(directions: Float[Tensor, "direction 3"], degree: int) -> Float[Tensor, "direction basis"]:
    """Real spherical harmonics of unit directions up to a degree of 0 to 3, in the order and signs of 3DGS."""
    x, y, z = directions.unbind(-1)
    found = [torch.full_like(x, SH_0)]
    if degree >= 1:
        found += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        found += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (3 * z * z - 1),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        found += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (5 * z * z - 1),
            0.3731763325901154 * z * (5 * z * z - 3),
            -0.4570457994644658 * x * (5 * z * z - 1),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(found, dim=-1)
