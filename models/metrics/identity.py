"""How alike two identities are to a recognition network."""

import numpy as np
from jaxtyping import Float, Float64


def identity_similarity(
    predicted: Float[np.ndarray, "*batch d"], target: Float[np.ndarray, "*batch d"]
) -> Float64[np.ndarray, "*batch"]:
    """Cosine similarity of embeddings, -1 to 1; NaN where either is not finite (a view without a face).

    Raises:
        ValueError: if an embedding is zero.
    """
    predicted, target = predicted.astype(np.float64), target.astype(np.float64)
    lengths = np.linalg.norm(predicted, axis=-1) * np.linalg.norm(target, axis=-1)
    if (lengths == 0).any():
        raise ValueError("identity_similarity: expected embeddings with a direction, got one that is zero")
    return np.asarray(np.einsum("...d,...d->...", predicted, target) / lengths)
