"""Scores of splats on views that they were not fitted to, by the definitions of `models.metrics`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.metrics.definitions import PSNR_LIMIT_DB
from spinmeround.models.metrics.geometry import mask_iou
from spinmeround.models.metrics.images import l2, psnr, ssim
from spinmeround.models.metrics.missing import Missing
from spinmeround.models.metrics.perceptual import Lpips
from spinmeround.models.reconstruction.gaussians import Gaussians
from spinmeround.models.reconstruction.projection import pixel_cameras
from spinmeround.models.reconstruction.rasteriser import draw
from spinmeround.tasks.pictures.contact_sheet import to_uint8
from spinmeround.tasks.reconstruction.views import PosedPictures
from spinmeround.tasks.weights.lpips_backbone import load_lpips

Scores = Mapping[str, float | None]
"""Mean over the views by metric, as `models.metrics.definitions` names them; None for one that is missing."""


def lpips_of(weights: str | None) -> Lpips | Missing:
    """LPIPS with the weights of `reconstruct.lpips_weights`, or why it is missing."""
    return load_lpips(Path(weights) if weights else None, field="reconstruct.lpips_weights")


@torch.no_grad()
def drawn(
    gaussians: Gaussians, cameras: Cameras, side: int
) -> tuple[UInt8[np.ndarray, "view side side 3"], UInt8[np.ndarray, "view side side"]]:
    """Pictures of splats on white, and their alphas, from all cameras."""
    drawings = [draw(gaussians, camera) for camera in pixel_cameras(cameras, side, gaussians.means)]
    rgb = torch.stack([each.rgb for each in drawings]).cpu().numpy()
    return to_uint8(rgb), to_uint8(torch.stack([each.alpha for each in drawings]).cpu().numpy())


def score(gaussians: Gaussians, views: PosedPictures, perceptual: Lpips | Missing) -> Scores:
    """Metrics of splats at the cameras of some views."""
    rgb, alpha = drawn(gaussians, views.cameras, views.rgb.shape[1])
    return {
        "l2": float(l2(rgb, views.rgb).mean()),
        "psnr": float(np.minimum(psnr(rgb, views.rgb), PSNR_LIMIT_DB).mean()),
        "ssim": float(ssim(rgb, views.rgb).mean()),
        "lpips": None if isinstance(perceptual, Missing) else float(perceptual(rgb, views.rgb).mean()),
        "mask_iou": float(mask_iou(alpha >= 128, views.mask >= 128).mean()),
    }
