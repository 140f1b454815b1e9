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
    map: str | None = None
    """Name of the map in `models.screening.maps` that shows where the score comes from."""

    def fails(self, value: float | None, limit: float) -> bool:
        """Whether a value is beyond the limit; a missing value does not fail."""
        if value is None:
            return False
        return value > limit if self.bad == "above" else value < limit


REGIONS = {
    "face": "face",
    "top": "top of the head",
    "back": "back of the head",
    "sides": "sides of the head",
    "neck": "neck and shoulders",
}
"""The regions of `models.screening.frame` in words."""

ROUGHNESS_SCALES = (
    ("fine_relief", "thousandths of the cube", "Distance from the surface's blur over 1/64 of the image"),
    ("coarse_relief", "thousandths of the cube", "Distance from the surface's blur over 1/16 of the image"),
    ("fine_colour", "percent", "Difference from the colour's blur over 1/64 of the image"),
)
"""Scales of roughness: name, unit, description."""

MODALITIES = {
    "shape": "shape",
    "solidity": "gaps and folds",
    "colour": "colour",
    "roughness": "roughness",
}
"""The modalities of `models.screening.grid` in words."""

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
        map="mirror",
        description="Share of the volume above the shoulders that is farther than 0.016 sides from the mirrored head.",
    ),
    Score(
        name="face_asymmetry",
        unit="sides of the cube",
        map="mirror",
        description="Distance from the mirrored surface that a twentieth of the face exceeds.",
    ),
    Score(
        name="one_sided_dents",
        unit="thousandths of volume",
        map="dents",
        description="Volume of dents without a mirrored counterpart, outside the face.",
    ),
    Score(
        name="crown_dents",
        unit="sides of the cube",
        map="dents",
        description="Depth of the deepest dent in the upper half of the head, mirrored or not.",
    ),
    Score(
        name="one_sided_bumps",
        unit="sides of the cube",
        map="bumps",
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
        map="odd_colours",
        description="Share of the visible surface whose hue and saturation are absent nearby on the mirrored side.",
    ),
    Score(
        name="one_sided_face_colour",
        unit="share of face",
        map="odd_colours",
        description="Share of the visible face whose hue and saturation are absent nearby on the mirrored side.",
    ),
    Score(
        name="colour_seam",
        unit="log ratio",
        description="Jump of log brightness across an upright plane, shared by three quarters of the patches along it.",
    ),
    Score(
        name="neck_area",
        unit="share of area",
        bad="below",
        description="Least cross-section below the chin divided by the largest one above it.",
    ),
    Score(
        name="neck_elongation",
        unit="ratio",
        description="Ratio of the longest to the shortest axis of the neck's least cross-section.",
    ),
    Score(
        name="neck_offset",
        unit="sides of the cube",
        description="Distance of the neck from the middle plane, plus the largest jump of its centre between heights.",
    ),
    Score(
        name="neck_step",
        unit="log ratio",
        description="Largest log ratio of cross-sections 0.04 sides of the cube apart, below the chin.",
    ),
    Score(
        name="shoulder_spread",
        unit="ratio",
        bad="below",
        description="Lowest cross-section divided by the neck's least one.",
    ),
    *(
        Score(
            name=f"{scale}_{region}",
            unit=unit,
            map=scale,
            description=f"{what} that a quarter of the visible {where} exceeds.",
        )
        for scale, unit, what in ROUGHNESS_SCALES
        for region, where in REGIONS.items()
    ),
    Score(
        name="view_disagreement",
        unit="log ratio",
        map="disagreement",
        description="Difference of log colour between neighbouring previews that a tenth of the surface exceeds.",
    ),
    Score(
        name="depth_disagreement",
        unit="share of surface",
        description="Share of the visible points in front of what the next preview shows, where it sees further.",
    ),
    Score(
        name="face_behind",
        unit="confidence",
        map="faces",
        description="Confidence of the best face that a detector finds in the previews from behind.",
    ),
    Score(
        name="likeness_behind",
        unit="cosine",
        map="faces",
        description="Largest cosine between the embeddings of a face seen from behind and of the frontal face.",
    ),
    Score(
        name="faces_in_front",
        unit="faces",
        description="Largest number of faces in one preview within 60 degrees of the face.",
    ),
    Score(
        name="face_in_front",
        unit="confidence",
        bad="below",
        description="Confidence of the best face that a detector finds in the frontal preview.",
    ),
    Score(
        name="population",
        unit="spreads",
        map="population",
        description="Distance from the population: mean of the tenth of the unwrapped head that deviates most.",
    ),
    *(
        Score(
            name=f"population_{region}",
            unit="spreads",
            map="population",
            description=f"Distance of the {where} from the population.",
        )
        for region, where in REGIONS.items()
    ),
    *(
        Score(
            name=f"population_{modality}",
            unit="spreads",
            map="population",
            description=f"Distance of the head's {what} from the population.",
        )
        for modality, what in MODALITIES.items()
    ),
    Score(
        name="inspection",
        unit="log-odds",
        map="inspection",
        description="Largest log-odds of a preview, by an inspector network, that something in it is wrong.",
    ),
    Score(
        name="inspection_around",
        unit="log-odds",
        map="inspection",
        description="Mean of these log-odds over all previews.",
    ),
    Score(
        name="inspection_peak",
        unit="log-odds",
        map="inspection",
        description="Mean log-odds of the cells of the previews that an inspector network finds most suspicious.",
    ),
    Score(
        name="inspection_distance",
        unit="log ratio",
        description="Largest distance of an inspector's features at any place from those of clean previews.",
    ),
)
