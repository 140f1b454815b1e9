"""Metrics of generated images, normals and identities against ground truth.

LPIPS is in `models.metrics.perceptual`, which imports torch; this package does not.
"""

from spinmeround.models.metrics.geometry import AngularError, mask_iou, normal_angular_error_deg
from spinmeround.models.metrics.identity import identity_similarity
from spinmeround.models.metrics.images import l2, psnr, ssim

__all__ = ["AngularError", "identity_similarity", "l2", "mask_iou", "normal_angular_error_deg", "psnr", "ssim"]
