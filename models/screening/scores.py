"""All scores of screening, in the order in which they are told."""

from dataclasses import dataclass
from typing import Literal

from spinmeround.models.screening import picture_scores, shape_scores
from spinmeround.models.screening.evidence import Evidence, ScoreFunction


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number about a head; its docstring is the function's. A head is dropped when it is `bad` of its limit."""

    of: ScoreFunction
    unit: str
    bad: Literal["above", "below"] = "above"

    @property
    def name(self) -> str:
        return self.of.__name__

    @property
    def about(self) -> str:
        """What it is, in a line."""
        return (self.of.__doc__ or "").split("\n")[0]

    def fails(self, value: float | None, limit: float) -> bool:
        """Whether a value is beyond the limit; a value that could not be had is not."""
        if value is None:
            return False
        return value > limit if self.bad == "above" else value < limit


SCORES: tuple[Score, ...] = (
    Score(of=shape_scores.stray_volume, unit="share of volume"),
    Score(of=shape_scores.cavity_volume, unit="share of volume"),
    Score(of=shape_scores.clipped_volume, unit="share of faces"),
    Score(of=shape_scores.crown_height, unit="sides of the cube", bad="below"),
    Score(of=shape_scores.back_depth, unit="sides of the cube", bad="below"),
    Score(of=shape_scores.asymmetry, unit="share of volume"),
    Score(of=shape_scores.one_sided_dents, unit="thousandths of volume"),
    Score(of=shape_scores.crown_dents, unit="sides of the cube"),
    Score(of=shape_scores.one_sided_bumps, unit="sides of the cube"),
    Score(of=picture_scores.silhouette_holes, unit="share of area"),
    Score(of=picture_scores.silhouette_pieces, unit="share of area"),
    Score(of=picture_scores.silhouette_spikes, unit="share of area"),
    Score(of=picture_scores.depth_to_width, unit="ratio"),
    Score(of=picture_scores.face_at_back, unit="correlation"),
    Score(of=picture_scores.relief_at_back, unit="correlation"),
    Score(of=picture_scores.recognition_at_back, unit="cosine"),
    Score(of=picture_scores.one_sided_colour, unit="share of surface"),
    Score(of=picture_scores.colour_seam, unit="log ratio"),
)


def all_scores(evidence: Evidence) -> dict[str, float | None]:
    """Every score of a head, by name."""
    return {score.name: score.of(evidence) for score in SCORES}
