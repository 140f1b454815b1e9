"""Similarity of identities to a recognition network."""

import numpy as np
from jaxtyping import Float, Float64


def identity_similarity(
    predicted: Float[np.ndarray, "*batch d"], target: Float[np.ndarray, "*batch d"]
) -> Float64[np.ndarray, "*batch"]:
    """Cosine similarity of embeddings, -1 to 1; NaN if either is not finite (a view without a face).

    Raises:
        ValueError: if an embedding is zero.
    """
    predicted, target = predicted.astype(np.float64), target.astype(np.float64)
    lengths = np.linalg.norm(predicted, axis=-1) * np.linalg.norm(target, axis=-1)
    if (lengths == 0).any():
        raise ValueError("identity_similarity: expected nonzero embeddings, got a zero vector")
    return np.asarray(np.einsum("...d,...d->...", predicted, target) / lengths)
