"""Configuration of the phases of the training: their steps and the kinds of view groups that they train on."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from spinmeround.tasks.stage import StageParams

PhaseName = Literal["adapt", "single-view", "multi-view"]
PHASES: tuple[PhaseName, ...] = get_args(PhaseName)
"""The phases in order. Each is a training of its own, which begins with the result of the one before."""


def field_of(name: PhaseName) -> str:
    """The field of a phase in `TrainParams`."""
    return name.replace("-", "_")


class GroupParams(StageParams):
    """One kind of view group that a phase trains on: `[[train.<phase>.groups]]` in a profile."""

    conditioning: int = Field(ge=0, description="Conditioning views of a group")
    targets: int = Field(ge=1, description="Target views of a group")
    weight: float = Field(1.0, gt=0.0, description="Relative frequency of this kind among the groups of the phase")
    batch: int = Field(0, ge=0, description="Groups per step; 0: `train.batch`")
    facing_deg: float = Field(
        90.0, ge=0.0, le=90.0, description="Largest |azimuth| of the first view; at 90 it shows part of the face"
    )
    nearest: int = Field(
        0,
        ge=0,
        description="Draw all views but the first from this many neighbours of a random view; 0: from all views",
    )

    @model_validator(mode="after")
    def _neighbourhood_holds_the_group(self) -> "GroupParams":
        if self.nearest and (self.views == 1 or self.nearest < self.views):
            expected = "0 for a single view" if self.views == 1 else f"0, or at least the group's {self.views} views"
            raise ValueError(f"nearest: expected {expected}, got {self.nearest}")
        return self

    @property
    def views(self) -> int:
        """Conditioning and target views together."""
        return self.conditioning + self.targets


class TrainingPhase(StageParams):
    """One phase, a training of its own. Each step draws one kind of group, by weight."""

    steps: int = Field(ge=0, description="Steps of this phase; 0 omits it. More steps continue a finished training")
    decay_steps: int = Field(
        0, ge=0, description="Step at which the learning rate has fallen to `train.final_rate`; 0: it does not fall"
    )
    groups: tuple[GroupParams, ...] = Field(description="Kinds of groups; at least one")

    @model_validator(mode="after")
    def _has_groups(self) -> "TrainingPhase":
        if not self.groups:
            raise ValueError("groups: expected at least one kind of group, got none; steps = 0 omits a phase")
        return self

    def views_per_step(self, batch: int) -> float:
        """Expected number of views per step; `batch` is the number of groups of kinds that set none."""
        views = sum(group.weight * group.views * (group.batch or batch) for group in self.groups)
        return views / sum(group.weight for group in self.groups)

    @property
    def largest(self) -> int:
        """Views of the largest group."""
        return max(group.views for group in self.groups)


class FacesParams(StageParams):
    """The pictures that `adapt` trains on, and how those from outside are prepared: embedded and encoded once."""

    source: str = Field(
        "heads",
        description="'heads' of the dataset, or pictures of faces: a folder, a .zip or .tar file, or a folder of these",
    )
    most: int = Field(1_000_000, ge=1, description="Pictures to prepare, drawn at random if the source has more")
    landmarks: Literal["detector", "aligned"] = Field(
        "detector",
        description="Landmarks for the embedding: of the detector in embed.pack, or none: the pictures are aligned as "
        "ArcFace's crops are",
    )
    most_dropped: float = Field(
        0.5, ge=0.0, le=1.0, description="Share of pictures that can't be used above which the training does not start"
    )

    @property
    def folder(self) -> Path | None:
        """The source outside of the dataset, if there is one."""
        return None if self.source == "heads" else Path(self.source).expanduser()


class AdaptPhase(TrainingPhase):
    """Single pictures of faces, conditioned on their identity alone; trains the UNet before it is extended to views."""

    steps: int = Field(31_000, ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = (GroupParams(conditioning=0, targets=1),)
    faces: FacesParams = FacesParams()

    @model_validator(mode="after")
    def _single_views(self) -> "AdaptPhase":
        if several := [group for group in self.groups if (group.conditioning, group.targets) != (0, 1)]:
            raise ValueError(
                "groups: expected single views (conditioning = 0, targets = 1), since this phase trains the UNet of "
                f"single pictures, got {several[0].conditioning} conditioning and {several[0].targets} target views"
            )
        return self


class SingleViewPhase(TrainingPhase):
    """Groups with one conditioning view."""

    steps: int = Field(600_000, ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = (GroupParams(conditioning=1, targets=7),)


class MultiViewPhase(TrainingPhase):
    """Groups with 0, 1 or 3 conditioning views."""

    steps: int = Field(1_000_000, ge=0, description="Steps of this phase; 0 omits it")
    groups: tuple[GroupParams, ...] = tuple(GroupParams(conditioning=m, targets=n) for m, n in ((0, 8), (1, 7), (3, 5)))
