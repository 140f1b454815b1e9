"""Assigns heads to splits by a hash of their ids, so that a head keeps its split when the dataset grows.

u is the first 8 bytes of SHA-256("spinmeround-split/" + id), big-endian, divided by 2^64. A head belongs to `test` if
u < test, to `validation` if u < test + validation, otherwise to `train`. Seed, size and order of the dataset do not
matter.
"""

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from spinmeround.storage.records import FrozenParams

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class SplitFractions(FrozenParams):
    """Shares of the heads held out for validation and test."""

    validation: float = Field(default=0.1, ge=0.0, lt=1.0)
    test: float = Field(default=0.1, ge=0.0, lt=1.0)
    rule: Literal["sha256-of-id"] = "sha256-of-id"

    @model_validator(mode="after")
    def _leaves_training_heads(self) -> "SplitFractions":
        if self.validation + self.test >= 1.0:
            raise ValueError(f"split: expected validation + test below 1, got {self.validation} + {self.test}")
        return self


def split_of(id: str, fractions: SplitFractions) -> SplitName:
    """The split of the head with this id, by the rule above."""
    u = int.from_bytes(hashlib.sha256(f"spinmeround-split/{id}".encode()).digest()[:8], "big") / 2**64
    if u < fractions.test:
        return "test"
    return "validation" if u < fractions.test + fractions.validation else "train"
