"""Scores of faces where none may be, from what a detector found in the previews; `SCORES` describes them."""

import numpy as np
from jaxtyping import Bool

from spinmeround.models.screening.evidence import Evidence, Map
from spinmeround.models.screening.faces import BEHIND_DEG


def recognition_at_back(evidence: Evidence) -> float | None:
    """Cosine between recognition embeddings of the face and of the same place on the back; None without a network."""
    return evidence.back_similarity


def face_behind(evidence: Evidence) -> float | None:
    """Confidence of the best face in the previews from behind; None without a detector."""
    if evidence.faces is None:
        return None
    return float(evidence.faces.confidence[_behind(evidence)].max(initial=0.0))


def likeness_behind(evidence: Evidence) -> float | None:
    """Largest cosine between a face seen from behind and the frontal one; None without a detector or a frontal face."""
    if evidence.faces is None or np.isnan(evidence.faces.likeness[evidence.view(evidence.frame.yaw_deg)]):
        return None
    return float(np.nanmax(evidence.faces.likeness[_behind(evidence)], initial=-1.0))


def faces_in_front(evidence: Evidence) -> float | None:
    """Largest number of faces in one preview within 60 degrees of the face, 0 if none has one; None without a
    detector."""
    if evidence.faces is None:
        return None
    return float(evidence.faces.count[_angle(evidence) <= 60.0].max(initial=0))


def face_in_front(evidence: Evidence) -> float | None:
    """Confidence of the best face in the frontal preview; None without a detector."""
    if evidence.faces is None:
        return None
    return float(evidence.faces.confidence[evidence.view(evidence.frame.yaw_deg)])


def faces_map(evidence: Evidence) -> Map | None:
    """The detector's confidence inside the best face of each preview from behind; None without a detector."""
    if evidence.faces is None:
        return None
    shown = np.zeros(evidence.visible.shape, np.float32)
    side = evidence.previews.rgb.shape[1]
    rows, columns = np.indices((side, side))
    for view in np.flatnonzero(_behind(evidence) & np.isfinite(evidence.faces.box).all(axis=1)):
        left, top, right, bottom = evidence.faces.box[view] * side
        inside = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        shown[view][inside] = evidence.faces.confidence[view]
    return shown


def _angle(evidence: Evidence) -> np.ndarray:
    """Angle between each camera's azimuth and the face's, 0 to 180 degrees."""
    return np.asarray(np.abs((evidence.cameras.azimuth_deg - evidence.frame.yaw_deg + 180.0) % 360.0 - 180.0))


def _behind(evidence: Evidence) -> Bool[np.ndarray, " view"]:
    return np.asarray(_angle(evidence) > BEHIND_DEG)
