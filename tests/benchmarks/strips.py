"""How evenly pictures change on the way between two procedural heads.

Each of 48 heads is led to two others in equal steps; a step's change, in mean grey values, is told as a share of
what the two ends differ. Above 1/steps it is larger than an even way's.
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
    """What each step between two seeds' heads changes in the picture, as a share of what the ends differ."""
    start, end = (generator.sample(seed) for seed in ends)
    way = [generator.interpolate(start, end, float(share)) for share in np.linspace(0.0, 1.0, heads)]
    pictures = np.stack([generator.render(head, VIEW, resolution).rgb[0] for head in way]).astype(float)
    steps = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    return np.asarray(steps / np.abs(pictures[-1] - pictures[0]).mean())


def main(
    heads: Annotated[int, typer.Option(min=3, help="Heads of a strip, ends included.")] = 9,
    resolution: Annotated[int, typer.Option(min=16, help="Side of the pictures.")] = 32,
    pairs: Annotated[int, typer.Option(min=1, max=len(PAIRS), help="How many of the pairs.")] = len(PAIRS),
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the largest steps."""
    generator = ProceduralGenerator(ProceduralOptions(defect_share=0.0))
    found = {ends: strip_changes(generator, ends, heads, resolution) for ends in PAIRS[:pairs]}
    largest = {ends: float(steps.max()) for ends, steps in found.items()}
    shares = np.array(list(largest.values()))
    worst = sorted(largest, key=lambda ends: largest[ends], reverse=True)[:8]
    return {
        "largest step of a strip, as a share of what its ends differ": [
            {
                "pairs": len(shares),
                "median": float(np.median(shares)),
                "worst": float(shares.max()),
                "above half": int((shares > 0.5).sum()),
            }
        ],
        "the worst": [{"from": ends[0], "to": ends[1], "largest step": largest[ends]} for ends in worst],
    }
