"""The table of screening scores. Imports no image library; `models.screening.measure` computes the scores."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number that describes a head, named as its function; the head fails if it is `bad` its limit."""

    name: str
    description: str
    unit: str
    bad: Literal["above", "below"] = "above"

    def fails(self, value: float | None, limit: float) -> bool:
        """Whether a value is beyond the limit; a missing value does not fail."""
        if value is None:
            return False
        return value > limit if self.bad == "above" else value < limit


SCORES: tuple[Score, ...] = (
    Score(
        name="stray_volume",
        unit="share of volume",
        description="Share of the volume outside the largest piece; 1 if nothing is inside.",
    ),
    Score(
        name="cavity_volume",
        unit="share of volume",
        description="Volume of closed cavities, as a share of the head's.",
    ),
    Score(
        name="clipped_volume",
        unit="share of faces",
        description="Share of the cube's faces that the head intersects, over all faces but the bottom.",
    ),
    Score(
        name="crown_height",
        unit="sides of the cube",
        bad="below",
        description="Height of the top of the head above its eyes.",
    ),
    Score(
        name="back_depth",
        unit="sides of the cube",
        bad="below",
        description="Distance of the back of the head behind the origin of its frame, above the eyes.",
    ),
    Score(
        name="asymmetry",
        unit="share of volume",
        description="Share of the head's volume that is farther than 0.016 sides of the cube from the mirrored head.",
    ),
    Score(
        name="face_asymmetry",
        unit="sides of the cube",
        description="Distance from the mirrored surface that a twentieth of the face exceeds.",
    ),
    Score(
        name="one_sided_dents",
        unit="thousandths of volume",
        description="Volume of dents without a mirrored counterpart, outside the face.",
    ),
    Score(
        name="crown_dents",
        unit="sides of the cube",
        description="Depth of the deepest dent in the upper half of the head, mirrored or not.",
    ),
    Score(
        name="one_sided_bumps",
        unit="sides of the cube",
        description="Height of the highest thin bump without a mirrored counterpart.",
    ),
    Score(
        name="silhouette_holes",
        unit="share of area",
        description="Largest share of a preview's filled silhouette that is enclosed background.",
    ),
    Score(
        name="silhouette_pieces",
        unit="share of area",
        description="Largest share of a preview's silhouette outside its largest piece.",
    ),
    Score(
        name="silhouette_spikes",
        unit="share of area",
        description="Largest share of a preview's silhouette removed by opening with a disk of 1/32 of the side.",
    ),
    Score(
        name="depth_to_width",
        unit="ratio",
        description="Widest row of the side silhouette divided by the widest row of the frontal one.",
    ),
    Score(
        name="face_at_back",
        unit="correlation",
        description="Correlation of fine brightness structure on the back of the head with that of the face, -1 to 1.",
    ),
    Score(
        name="relief_at_back",
        unit="correlation",
        description="Correlation of fine depth structure on the back of the head with that of the face, -1 to 1.",
    ),
    Score(
        name="recognition_at_back",
        unit="cosine",
        description="Cosine between recognition embeddings of the face and of the same place on the back.",
    ),
    Score(
        name="one_sided_colour",
        unit="share of surface",
        description="Share of the visible surface whose hue and saturation are absent nearby on the mirrored side.",
    ),
    Score(
        name="one_sided_face_colour",
        unit="share of face",
        description="Share of the visible face whose hue and saturation are absent nearby on the mirrored side.",
    ),
    Score(
        name="colour_seam",
        unit="log ratio",
        description="Jump of log brightness across an upright plane, shared by three quarters of the patches along it.",
    ),
)
