"""Evenness of the interpolation between two procedural heads.

Each of 48 heads is interpolated to two others in equal steps. The change of a step is the mean absolute difference of
the pictures, as a share of the difference between the two ends; an even interpolation has 1 / steps at every step.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import Float

from spinmeround.models.geometry.cameras import orbit
from spinmeround.panohead_bridge.procedural import ProceduralGenerator, ProceduralOptions
from spinmeround.panohead_bridge.protocol import InterpolatingGenerator

SEEDS = 48
PAIRS = tuple((first, (7 * first + shift) % SEEDS) for shift in (5, 11) for first in range(SEEDS))
VIEW = orbit([25.0], [0.0])


def strip_changes(
    generator: InterpolatingGenerator, ends: tuple[int, int], heads: int, resolution: int
) -> Float[np.ndarray, " step"]:
    """The change of the picture at each step, as a share of the difference between the ends."""
    start, end = (generator.sample(seed) for seed in ends)
    heads_between = [generator.interpolate(start, end, float(share)) for share in np.linspace(0.0, 1.0, heads)]
    pictures = np.stack([generator.render(head, VIEW, resolution).rgb[0] for head in heads_between]).astype(float)
    steps = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    return np.asarray(steps / np.abs(pictures[-1] - pictures[0]).mean())


def main(
    heads: Annotated[int, typer.Option(min=3, help="Heads of a strip, both ends included.")] = 9,
    resolution: Annotated[int, typer.Option(min=16, help="Side of the pictures, in pixels.")] = 32,
    pairs: Annotated[int, typer.Option(min=1, max=len(PAIRS), help="Number of pairs.")] = len(PAIRS),
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the largest step of each strip."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    found = {ends: strip_changes(generator, ends, heads, resolution) for ends in PAIRS[:pairs]}
    largest = {ends: float(steps.max()) for ends, steps in found.items()}
    shares = np.array(list(largest.values()))
    worst = sorted(largest, key=lambda ends: largest[ends], reverse=True)[:8]
    return {
        "largest step of a strip, as a share of the difference between its ends": [
            {
                "pairs": len(shares),
                "median": float(np.median(shares)),
                "worst": float(shares.max()),
                "above half": int((shares > 0.5).sum()),
            }
        ],
        "largest steps": [{"from": ends[0], "to": ends[1], "largest step": largest[ends]} for ends in worst],
    }
