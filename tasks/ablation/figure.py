"""The figure of an ablation: for some heads, the input, the truth and what each model generates, view by view."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from spinmeround.tasks.ablation.params import LABELS
from spinmeround.tasks.evaluation.params import MODEL
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet

Pictures = Mapping[str, np.ndarray]
"""The arrays of `pictures.npz` of an evaluation."""


def ablation_figure(pictures: Mapping[str, Pictures], ids: list[str], *, heads: int, views: int) -> Image.Image:
    """A row for each view of each of the first heads; a column for the input, for the truth and for each model."""
    ours, cells, captions = pictures[MODEL], list[UInt8[np.ndarray, "height width 3"]](), list[str]()
    for head in range(min(heads, len(ours["true_rgb"]))):
        given = ours["input_rgb"][head, 0]
        for row, view in enumerate(spread(ours["azimuth_deg"][head], views)):
            angles = f"azimuth {ours['azimuth_deg'][head, view]:.0f}, elevation {ours['elevation_deg'][head, view]:.0f}"
            cells += [np.full_like(given, 255) if row else given, ours["true_rgb"][head, view]]
            captions += ["" if row else f"{ids[head]}\ninput", f"truth\n{angles}"]
            cells += [found["generated_rgb"][head, view] for found in pictures.values()]
            captions += [LABELS[name] for name in pictures]
    return contact_sheet(cells, captions, style=SheetStyle(columns=2 + len(pictures)))


def spread(azimuth_deg: Float[np.ndarray, " view"], count: int) -> list[int]:
    """At most `count` views that are evenly spaced in the order from the front to the back."""
    front = 180.0 - np.abs(180.0 - np.mod(azimuth_deg, 360.0))
    order = np.argsort(front, kind="stable").tolist()
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[place] for place in places]
