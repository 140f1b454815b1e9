"""Validation of the pipeline's inputs. Errors are ValueErrors that name the argument."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.identity.params import EMBEDDING_SIZE


def checked_identity(
    identity: Float[Tensor, " 512"] | Float[np.ndarray, " 512"], device: torch.device
) -> Float[Tensor, " 512"]:
    """The embedding as a float32 tensor; raises ValueError if it is not finite or not of unit length."""
    embedding = torch.as_tensor(identity, dtype=torch.float32, device=device)
    if embedding.shape != (EMBEDDING_SIZE,) or not bool(embedding.isfinite().all()):
        invalid = embedding.numel() - int(embedding.isfinite().sum())
        raise ValueError(
            f"identity: expected {EMBEDDING_SIZE} finite numbers, got shape {tuple(embedding.shape)} with {invalid} "
            "values that are not finite"
        )
    if abs((length := float(embedding.norm())) - 1) > 1e-2:
        raise ValueError(f"identity: expected a vector of length 1, got one of length {length:.3g}; normalise it")
    return embedding


def in_unit_range(name: str, images: Any) -> Any:
    """The images, with arrays clipped to [0, 1]; diffusers treats any negative value as a range of [-1, 1].

    Raises ValueError for arrays that exceed [0, 1] by more than rounding.
    """
    if isinstance(images, list | tuple):
        return [in_unit_range(name, image) for image in images]
    if not isinstance(images, np.ndarray | Tensor):
        return images
    low, high = float(images.min()), float(images.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ValueError(f"{name}: expected values in [0, 1], got {low:.3g} to {high:.3g}")
    return images.clip(0, 1)
