"""The model of a profile: its sections, validated one by one and against each other."""

from typing import Self

from pydantic import model_validator

from spinmeround.flows.profile.contradictions import first_contradiction
from spinmeround.flows.profile.sections import ProfileSections


class Profile(ProfileSections):
    """Configuration of a run. Raises a validation error where two sections contradict each other."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problem := first_contradiction(self):
            raise ValueError(problem)
        return self
