"""Options of procedural heads and the kinds of their defects. Imports no torch.

`VERSION` and the options decide every head, so they are the generator's fingerprint.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from spinmeround.storage.records import FrozenParams

VERSION = 6
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

VOLUME_OPTIONS = frozenset({"volume_softness", "volume_grain"})
"""Options that only `rendering = "volume"` uses."""


class ProceduralOptions(FrozenParams):
    """Options of the procedural generator."""

    defect_share: float = Field(default=0.3, ge=0.0, le=1.0, description="Share of heads that get a labelled defect")
    defect_kinds: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Kinds of defects to draw; default: all"
    )
    defect_strengths: tuple[float, float] = Field(
        default=(0.2, 1.0), description="Least and largest strength of a defect, from 0 (faint) to 1 (gross)"
    )
    defect_softness: tuple[float, float] = Field(
        default=(0.0, 1.0), description="Least and largest softness of a defect's edges, from 0 (sharp) to 1"
    )
    defect_more_share: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of defective heads with a second, weaker defect; the same share of these has a third",
    )
    truncation: float = Field(default=1.0, ge=0.0, le=2.0, description="Factor on the latent (psi); 0 is the mean head")
    rendering: Literal["surface", "volume"] = Field(
        default="surface", description="First hits of a surface, or means along rays through a soft volume"
    )
    volume_softness: float = Field(
        default=0.002, ge=1e-5, le=0.03, description="Width, in world units, over which a volume's density falls"
    )
    volume_grain: float = Field(
        default=0.006, ge=0.0, le=0.1, description="Standard deviation of a volume's noise in each view, of white"
    )

    @field_validator("defect_kinds")
    @classmethod
    def _known_kinds(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = set(kinds or ()) - set(DEFECT_KINDS)
        if unknown:
            raise ValueError(f"expected kinds among {', '.join(DEFECT_KINDS)}; got {', '.join(sorted(unknown))}")
        return kinds

    @field_validator("defect_strengths", "defect_softness")
    @classmethod
    def _ordered(cls, ends: tuple[float, float]) -> tuple[float, float]:
        if not 0.0 <= ends[0] <= ends[1] <= 1.0:
            raise ValueError(f"expected 0 <= least <= largest <= 1, got {ends}")
        return ends

    @model_validator(mode="after")
    def _of_this_rendering(self) -> "ProceduralOptions":
        unused = sorted(VOLUME_OPTIONS & self.model_fields_set)
        if unused and self.rendering == "surface":
            raise ValueError(f"{', '.join(unused)}: expected with rendering = 'volume' only, got 'surface'")
        return self

    def fingerprint(self) -> str:
        """Changes whenever a head changes."""
        unused = {"rendering", *VOLUME_OPTIONS} if self.rendering == "surface" else None
        content = f"procedural {VERSION} {self.model_dump_json(exclude=unused)}"
        return f"procedural-{VERSION}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, kw_only=True)
class Defect:
    """What is wrong with a head; for measurement only, screening never sees it."""

    kind: str
    strength: float
    softness: float = 0.0
    """How gradual its edges are, from 0 (sharp) to 1."""


def draw_defects(seed: int, options: ProceduralOptions) -> tuple[Defect, ...]:
    """The defects of a seed: none, or the main one and up to two weaker ones of other kinds.

    Whether there are more affects nothing of the main one.
    """
    main = draw_defect(random_of(seed, "defect"), options.defect_share, options.defect_kinds, options.defect_strengths)
    if main is None:
        return ()
    rng = random_of(seed, "more defects")
    softness = rng.uniform(*options.defect_softness, 3)
    first, second = rng.uniform(size=2) < options.defect_more_share
    kinds = [DEFECT_KINDS[index] for index in rng.permutation(len(DEFECT_KINDS))]
    least, shares = options.defect_strengths[0], rng.uniform(size=2)
    others = [kind for kind in kinds if kind != main.kind and kind in (options.defect_kinds or DEFECT_KINDS)]
    more = [
        Defect(kind=kind, strength=float(least + share * (main.strength - least)), softness=float(soft))
        for kind, share, soft in zip(others[: int(first) + int(first and second)], shares, softness[1:], strict=False)
    ]
    return replace(main, softness=float(softness[0])), *more


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
