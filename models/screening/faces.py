"""Scores of faces where none may be: what a detector and a recognition network find in the previews.

`SCORES` describes the scores. `tasks.heads.faces` runs the networks.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int

BEHIND_DEG = 100.0
"""Least angle between a camera and the direction of the face from which no face may be seen."""


@dataclass(frozen=True, kw_only=True)
class SeenFaces:
    """What was found in each preview.

    `confidence` is the detector's score of the best face, 0 without one; `count` the number of faces; `likeness` the
    cosine between the embeddings of the best face and of the frontal view's best face, NaN if one of them is missing;
    `box` is the best face (left, top, right, bottom) in sides of the image, NaN without one.
    """

    confidence: Float32[np.ndarray, " view"]
    count: Int[np.ndarray, " view"]
    likeness: Float32[np.ndarray, " view"]
    box: Float32[np.ndarray, "view 4"]
