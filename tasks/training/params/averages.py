"""Configuration of the averages of the weights."""

from pydantic import Field, model_validator

from spinmeround.tasks.stage import StageParams

LONGEST = 0.28
"""A power function's relative length is below 1/sqrt(12), that of the plain mean of all steps."""


class AverageParams(StageParams):
    """Averages of the weights by a power function of the step (EDM2, arXiv:2312.02696, Section 3).

    A length is the standard deviation of the averaged steps, as a share of the steps so far. Snapshots of two averages
    give that of any other length afterwards.
    """

    length: float = Field(0.05, gt=0.0, le=LONGEST, description="Length of the average that is the training's result")
    tracked: tuple[float, ...] = Field(
        (0.05,), min_length=1, description="Lengths that the training keeps; two for snapshots"
    )
    snapshots: int = Field(
        0, ge=0, description="Snapshots in the result, from which an average of another length is made; 0: none"
    )

    @model_validator(mode="after")
    def _length_is_available(self) -> "AverageParams":
        if wrong := [length for length in self.tracked if not 0 < length <= LONGEST]:
            raise ValueError(f"tracked: expected lengths above 0 and up to {LONGEST:g}, got {wrong[0]:g}")
        if len(set(self.tracked)) < len(self.tracked):
            raise ValueError(f"tracked: expected different lengths, got {self.tracked}")
        if self.snapshots and len(self.tracked) < 2:
            raise ValueError(f"tracked: expected two lengths or more for snapshots, got {self.tracked}")
        if self.length not in self.tracked:
            known = ", ".join(f"{length:g}" for length in self.tracked)
            raise ValueError(
                f"length: expected one of average.tracked ({known}), got {self.length:g}; track it, or take snapshots "
                "and choose it after the training"
            )
        return self
