"""A page that shows splats: self-contained, drawn by WebGL 2, without a server."""

import base64
from typing import Any

import torch
from einops import rearrange

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.reconstruction.gaussians import Gaussians, covariances
from spinmeround.tasks.html import template

RESOLUTION = 512
"""Side of the canvas in pixels, if the fitted pictures are not larger."""


def viewer_page(splats: Gaussians, side: int, title: str, resolution: int | None = None) -> str:
    """The page; `side` is that of the fitted pictures, `resolution` that of the canvas."""
    canvas = max(side, RESOLUTION) if resolution is None else resolution
    return template("splats.html.j2").render(splats=viewer_data(splats, side), resolution=canvas, title=title)


def viewer_data(splats: Gaussians, side: int, degree: int | None = None) -> dict[str, Any]:
    """What the script `splats.js` reads: values as little-endian floats in base64, and the orbit of the cameras.

    `degree` is that of the harmonics which are included, by default of all.
    """
    degree = splats.degree if degree is None else min(degree, splats.degree)
    spread = covariances(splats)
    values = [
        splats.means,
        *(spread[:, row, column, None] for row, column in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))),
        splats.opacity_logits.sigmoid()[:, None],
        rearrange(splats.harmonics[:, : (degree + 1) ** 2], "gaussian basis colour -> gaussian (basis colour)"),
    ]
    table = torch.cat(values, dim=-1).detach().cpu().numpy().astype("<f4")
    grid = ViewGrid()
    return {
        "number": len(splats),
        "degree": degree,
        "values": base64.b64encode(table.tobytes()).decode("ascii"),
        "side": side,
        "radius": grid.radius,
        "focal": grid.focal,
    }
