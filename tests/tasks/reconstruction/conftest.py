"""A folder of a ball's views, as `spinmeround generate` writes it."""

from pathlib import Path

import numpy as np
import pytest

from spinmeround.models.geometry.cameras import ViewGrid
from spinmeround.models.geometry.normals import encode_normals
from spinmeround.models.reconstruction.params import DensifyParams, LearningRates, SplatParams
from spinmeround.tasks.generation.outputs import GeneratedHead, write_head
from spinmeround.tasks.reconstruction.params import ReconstructParams
from tests.models.reconstruction.balls import ball

QUICK = ReconstructParams(
    views=12,
    held_out=2,
    hull_resolution=32,
    splats=SplatParams(
        number=300,
        steps=80,
        densify=DensifyParams(start=10_000),
        rates=LearningRates(means=1e-3, log_scales=2e-2),
    ),
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 views of 32 px, with normals."""
    views = ball(32, ViewGrid(azimuths=8, elevations_deg=(-25.0, 25.0)))
    mask = np.where(np.linalg.norm(views.normals, axis=-1) > 0, 255, 0).astype(np.uint8)
    head = GeneratedHead(name="ball", rgb=views.rgb, normals=encode_normals(views.normals, mask))
    path = tmp_path_factory.mktemp("generated")
    write_head(head, views.cameras, path)
    return path
