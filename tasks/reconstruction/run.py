"""Reconstructs a head from posed views and writes what was made of them. The files:

splats.ply          the Gaussians, in the layout of 3DGS
scores.json         metrics of the held-out views, and of the truth if it is known; `models.metrics` defines them
held-out.png        held-out views above the splats from the same cameras
turntable.webp      the splats from all sides
viewer.html         a page without external resources on which the mouse turns the splats
mesh.ply, mesh.glb  a mesh that follows the normals, if the views have any
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from spinmeround.models.device import best_device
from spinmeround.models.geometry.cameras import ViewGrid, orbit
from spinmeround.models.geometry.hull import visual_hull
from spinmeround.models.metrics.missing import Missing
from spinmeround.models.metrics.perceptual import Lpips
from spinmeround.models.reconstruction.gaussians import Gaussians
from spinmeround.models.reconstruction.initial import gaussians_on_mesh
from spinmeround.models.reconstruction.optimisation import FittedView, Perceptual, StepReport, fit_gaussians
from spinmeround.models.reconstruction.projection import pixel_cameras
from spinmeround.storage.artifacts import ArtifactStore, Outcome
from spinmeround.storage.errors import as_config_error
from spinmeround.storage.numbers import json_text
from spinmeround.storage.records import TriangleMesh
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet
from spinmeround.tasks.reconstruction.files import HELD_OUT, SCORES, SPLATS, TURNTABLE, VIEWER
from spinmeround.tasks.reconstruction.mesh import write_mesh
from spinmeround.tasks.reconstruction.params import (
    STAGE,
    VERSION,
    FolderSource,
    HeadSource,
    ReconstructParams,
    key_parts,
    name_of,
    reconstruction_key,
)
from spinmeround.tasks.reconstruction.ply import splat_file
from spinmeround.tasks.reconstruction.scores import Scores, drawn, lpips_of, score
from spinmeround.tasks.reconstruction.viewer import viewer_page
from spinmeround.tasks.reconstruction.views import PosedPictures, divided, read_head, read_source

TURNTABLE_VIEWS, FRAME_MS = 48, 80

OnStep = Callable[[StepReport], None]


def make_reconstruction(
    store: ArtifactStore,
    source: HeadSource | FolderSource,
    params: ReconstructParams,
    on_step: OnStep = lambda report: None,
) -> tuple[Outcome, str]:
    """Reconstruct unless the store has the result; returns the outcome and the artifact's key."""
    key = reconstruction_key(source, params)
    content, inputs, weights = key_parts(source, params)

    def make(out: Path) -> None:
        run_reconstruction(source, params, out, on_step)

    outcome = store.make_once(
        STAGE, key, make, version=VERSION, params=content, inputs=inputs, weights=weights, subject=name_of(source)
    )
    return outcome, key


def run_reconstruction(
    source: HeadSource | FolderSource,
    params: ReconstructParams,
    out: Path,
    on_step: OnStep = lambda report: None,
) -> Scores:
    """Fit splats to the views of a source and write all files into `out`; returns the scores of the held-out views.

    Raises ConfigError for views that do not fit together.
    """
    views = read_source(source)
    chosen, kept = divided(len(views), fitted=params.views, held_out=params.held_out)
    fitted, held_out = views[chosen], views[kept]
    perceptual = lpips_of(params.lpips_weights)
    with as_config_error(f"{name_of(source)}: "):
        hull = visual_hull(fitted.cameras, fitted.mask, resolution=params.hull_resolution)
        splats = splats_of(fitted, hull, params, perceptual, on_step)
    scores = score(splats, held_out, perceptual)
    document: dict[str, Any] = {
        "subject": name_of(source),
        "side": views.rgb.shape[1],
        "gaussians": len(splats),
        "fitted_views": chosen,
        "held_out_views": kept,
        "held_out": scores,
    }
    if fitted.normals is not None:
        with as_config_error(f"{name_of(source)}: "):
            document["mesh"] = write_mesh(hull, fitted, held_out, out)
    truth = source.truth if isinstance(source, FolderSource) else None
    if truth is not None:
        document["truth"] = score(splats, _sample(read_head(truth), params.held_out), perceptual)
    (out / SCORES).write_text(json_text(document, "scores"), encoding="utf-8")
    (out / SPLATS).write_bytes(splat_file(splats))
    page = viewer_page(splats, views.rgb.shape[1], name_of(source))
    (out / VIEWER).write_text(page, encoding="utf-8")
    _write_pictures(splats, held_out, out)
    return scores


def splats_of(
    views: PosedPictures,
    surface: TriangleMesh,
    params: ReconstructParams,
    perceptual: Lpips | Missing,
    on_step: OnStep = lambda report: None,
) -> Gaussians:
    """Splats that begin on a surface and are fitted to all views, on the best device."""
    splats = params.splats
    initial = gaussians_on_mesh(
        surface, views.cameras, views.rgb, views.mask, number=splats.number, degree=splats.degree, seed=splats.seed
    ).to(best_device())
    cameras = pixel_cameras(views.cameras, views.rgb.shape[1], initial.means)
    tensors = (torch.from_numpy(each).to(initial.means) / 255 for each in (views.rgb, views.mask))
    fitted = [FittedView(camera=each, rgb=rgb, alpha=alpha) for each, rgb, alpha in zip(cameras, *tensors, strict=True)]
    distance = None if isinstance(perceptual, Missing) else _differentiable(perceptual.to(initial.means.device))
    return fit_gaussians(initial, fitted, splats, perceptual=distance, on_step=on_step)


def _differentiable(lpips: Lpips) -> Perceptual:
    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return lpips.distances(*(rearrange(each, "h w c -> 1 c h w") for each in (a, b)))[0]

    return distance


def _sample(views: PosedPictures, number: int) -> PosedPictures:
    return views[divided(len(views), fitted=4, held_out=min(number, len(views) - 4))[1]]


def _write_pictures(splats: Gaussians, held_out: PosedPictures, out: Path) -> None:
    side = held_out.rgb.shape[1]
    rgb, _ = drawn(splats, held_out.cameras, side)
    pairs = np.concatenate([held_out.rgb, rgb], axis=1)
    angles = zip(held_out.cameras.azimuth_deg, held_out.cameras.elevation_deg, strict=True)
    captions = [f"held-out view\nazimuth {azimuth:.0f}, elevation {elevation:.0f}" for azimuth, elevation in angles]
    sheet = contact_sheet(list(pairs), captions, style=SheetStyle(columns=8, cell=max(128, side)))
    sheet.save(out / HELD_OUT)
    (out / TURNTABLE).write_bytes(turntable(splats, side))


def turntable(splats: Gaussians, side: int) -> bytes:
    """A looping animated WebP of the splats from all sides."""
    grid = ViewGrid()
    azimuths = np.arange(TURNTABLE_VIEWS) * (360.0 / TURNTABLE_VIEWS)
    rgb, _ = drawn(splats, orbit(azimuths, np.zeros_like(azimuths), radius=grid.radius, focal=grid.focal), side)
    frames = [Image.fromarray(each) for each in rgb]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, format="WEBP", save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=90
    )
    return buffer.getvalue()
