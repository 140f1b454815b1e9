"""Contact sheets of every kind at every strength beside the clean head: `python -m tests.benchmarks.held_out`.

`NOTICEABLE` was read off these sheets.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from spinmeround.models.geometry.cameras import orbit
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, save_contact_sheet, side_by_side
from tests.benchmarks.held_out.generator import KINDS, STRENGTHS, HeldOutGenerator, HeldOutOptions

VIEWS = orbit([0.0, 70.0, 180.0, -70.0], [0.0, 10.0, 0.0, 10.0])


def head_of(kind: str, strength: float, seed: int, resolution: int) -> np.ndarray:
    """The four views of a head with this defect, side by side; strength 0 is the clean head."""
    generator = HeldOutGenerator(HeldOutOptions(share=1.0, kinds=(kind,), strengths=(strength,)))
    return side_by_side(generator.render(generator.sample(seed), VIEWS, resolution).rgb)


def main(
    to: Annotated[Path, typer.Option(help="Folder for the sheets, one picture for each six kinds.")],
    seeds: Annotated[str, typer.Option(help="Seeds of the heads, taken in turn.")] = "3,6,9,12,40",
    resolution: Annotated[int, typer.Option(min=16, help="Side of a view, in pixels.")] = 128,
    kinds: Annotated[str, typer.Option(help="Kinds, separated by commas; default: all.")] = "",
) -> None:
    """Write the contact sheets."""
    chosen, heads = kinds.split(",") if kinds else list(KINDS), [int(seed) for seed in seeds.split(",")]
    style = SheetStyle(columns=1 + len(STRENGTHS), cell=4 * resolution)
    for start in range(0, len(chosen), 6):
        pictures, captions = [], []
        for number, kind in enumerate(chosen[start : start + 6], start):
            for strength in (0.0, *STRENGTHS):
                seed = heads[number % len(heads)]
                pictures.append(head_of(kind, strength, seed, resolution))
                captions.append(f"{kind}, {strength:g}, seed {seed}" if strength else f"clean, seed {seed}")
        save_contact_sheet(to / f"held_out_{start // 6}.png", contact_sheet(pictures, captions, style=style))


if __name__ == "__main__":
    typer.run(main)
