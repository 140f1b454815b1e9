"""Options of procedural heads and the kinds of their defects. Imports no torch.

`VERSION` and the options decide every head, so they are the generator's fingerprint.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field, field_validator

from spinmeround.storage.records import FrozenParams

VERSION = 5
"""Version of the heads. Increment when any head changes; the fingerprint and so every artifact key contain it."""

DEFECT_KINDS = (
    "floating pieces",
    "hair cut open",
    "holes",
    "clipped volume",
    "flattened skull",
    "mirrored face",
    "spikes",
    "doubled skull",
    "colour seam",
)
"""Kinds of defects, in the order in which they are drawn; `defects.KINDS` implements them."""


class ProceduralOptions(FrozenParams):
    """Options of the procedural generator."""

    defect_share: float = Field(default=0.3, ge=0.0, le=1.0, description="Share of heads that get a labelled defect")
    defect_kinds: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Kinds of defects to draw; default: all"
    )
    defect_strengths: tuple[float, float] = Field(
        default=(0.25, 1.0), description="Least and largest strength of a defect, from 0 (faint) to 1 (gross)"
    )
    truncation: float = Field(default=1.0, ge=0.0, le=2.0, description="Factor on the latent (psi); 0 is the mean head")

    @field_validator("defect_kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = set(kinds or ()) - set(DEFECT_KINDS)
        if unknown:
            raise ValueError(f"expected kinds among {', '.join(DEFECT_KINDS)}; got {', '.join(sorted(unknown))}")
        return kinds

    @field_validator("defect_strengths")
    @classmethod
    def _ordered_strengths(cls, strengths: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 <= strengths[0] <= strengths[1] <= 1.0:
            raise ValueError(f"expected 0 <= least <= largest <= 1, got {strengths}")
        return strengths

    def fingerprint(self) -> str:
        """Changes whenever a head changes."""
        content = f"procedural {VERSION} {self.model_dump_json()}"
        return f"procedural-{VERSION}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Defect:
    """What is wrong with a head; for measurement only, screening never sees it."""

    kind: str
    strength: float


def draw_defect(
    rng: np.random.Generator, share: float, kinds: Sequence[str] | None, strengths: tuple[float, float]
) -> Defect | None:
    """A defect with probability `share`; kind and strength are independent of the share.

    A head keeps its kind while that is among `kinds` (None: all); otherwise it gets another of them.
    """
    drawn = rng.uniform()
    kind, strength = DEFECT_KINDS[rng.integers(0, len(DEFECT_KINDS))], rng.uniform(*strengths)
    if kinds is not None and kind not in kinds:
        kind = kinds[int(rng.integers(0, len(kinds)))]
    return Defect(kind=kind, strength=float(strength)) if drawn < share else None


def random_of(seed: int, purpose: str) -> np.random.Generator:
    """The generator of a seed for one purpose; raises ValueError for a negative seed."""
    if seed < 0:
        raise ValueError(f"seed: expected 0 or more, got {seed}")
    salt = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, salt])
