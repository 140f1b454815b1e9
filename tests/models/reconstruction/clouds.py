"""Random Gaussians, and a slow rasteriser from the published formulas."""

import torch

from spinmeround.models.geometry.cameras import orbit
from spinmeround.models.reconstruction.gaussians import Gaussians
from spinmeround.models.reconstruction.projection import PixelCamera, pixel_cameras


def cloud(number=60, *, seed=0, degree=0, dtype=torch.float64, spread=0.12, scale=-3.4) -> Gaussians:
    """Gaussians of many shapes, sizes and opacities around the origin; some reach out of the image."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=dtype)

    return Gaussians(
        means=spread * normal(number, 3),
        quaternions=normal(number, 4),
        log_scales=scale + 0.6 * normal(number, 3),
        opacity_logits=1.0 + 2.0 * normal(number),
        harmonics=0.5 * normal(number, (degree + 1) ** 2, 3),
    )


def camera(side=40, dtype=torch.float64, azimuth_deg=25.0, elevation_deg=-20.0) -> PixelCamera:
    """One camera of the orbit."""
    return pixel_cameras(orbit([azimuth_deg], [elevation_deg]), side, torch.zeros(1, dtype=dtype))[0]


def dense(means, conics, depths, opacities, colours, side):
    """Alpha compositing pixel by pixel, as `RasterizeToPixels3DGSFwd.cu` of gsplat 1.5 states it.

    Returns colours on black, alphas, and a list of the (Gaussian, pixel) pairs that count.
    """
    order = depths.argsort()
    picture, alphas, pairs = torch.zeros(side, side, 3, dtype=means.dtype), torch.zeros(side, side), []
    alphas = alphas.to(means.dtype)
    for row in range(side):
        for column in range(side):
            d = means.new_tensor([column + 0.5, row + 0.5]) - means[order]
            c = conics[order]
            sigma = 0.5 * (c[:, 0] * d[:, 0] ** 2 + c[:, 2] * d[:, 1] ** 2) + c[:, 1] * d[:, 0] * d[:, 1]
            alpha = (opacities[order] * (-sigma).exp()).clamp_max(0.999)
            transmittance = 1.0
            for place in torch.nonzero(alpha >= 1 / 255)[:, 0].tolist():
                following = transmittance * (1 - float(alpha[place]))
                if following <= 1e-4:
                    break
                picture[row, column] += alpha[place] * transmittance * colours[order[place]]
                pairs.append((int(order[place]), row * side + column))
                transmittance = following
            alphas[row, column] = 1 - transmittance
    return picture, alphas, pairs
