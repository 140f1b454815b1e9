"""Sample: views of a head from a trained model, as pictures in a folder.

The head comes from a dataset (its identity, and some of its views as conditioning), from its identity
alone, or from nothing. Written are `view-NN.png` and `normals-NN.png` in the order of the cameras,
`cameras.json` (angles in degrees) and `sheet.png`, a contact sheet of the given and the generated views.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from pydantic import Field, model_validator

from models.diffusion.edm import NoiseSchedule
from models.diffusion.params import SolverParams
from models.diffusion.pipeline import PosedViews, SpinMeRoundOutput, SpinMeRoundPipeline
from models.geometry.cameras import Cameras, ViewGrid
from storage.dataset import HeadDataset
from storage.errors import DatasetError, environment_errors
from tasks.contact_sheet import SheetStyle, contact_sheet
from tasks.stage import StageParams


class SampleViewsParams(StageParams):
    """What is sampled, and how."""

    condition: Literal["views", "identity", "nothing"] = Field(
        "views", description="What the model is given of the head: views and identity, the identity alone, or nothing"
    )
    head: str | None = Field(None, description="Id of the head in the dataset; none for 'nothing'")
    given: tuple[int, ...] = Field((0,), description="Indices of the given views, 1 or 3 of them")
    views: ViewGrid = Field(ViewGrid(azimuths=7, elevations_deg=(0.0,)), description="The views to generate")
    guidance_scale: float | None = Field(None, ge=0.0, description="By default 3, or 3.5 without given views")
    schedule: NoiseSchedule | None = None
    solver: SolverParams = SolverParams()
    batch: int = Field(1, ge=1, description="Groups of views generated at once; does not change the result")
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> "SampleViewsParams":
        if self.condition != "nothing" and self.head is None:
            raise ValueError(f"head: expected the id of a head for condition {self.condition!r}, got none")
        if self.condition == "views" and len(self.given) not in (1, 3):
            raise ValueError(f"given: expected 1 or 3 given views, got {len(self.given)}")
        return self


def run_sampling(
    pipeline: Path | SpinMeRoundPipeline,
    dataset: Path | None,
    params: SampleViewsParams,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Samples and writes; returns the files. `dataset` may be None for condition 'nothing'.

    `progress(done, steps)` follows each step; a pipeline loaded here draws no bar of its own.

    Raises DatasetError for an unknown head or view, ValueError where no dataset is given.
    """
    model = pipeline
    if isinstance(model, Path):
        if not (model / "model_index.json").is_file():
            raise ValueError(f"pipeline: expected a trained pipeline (model_index.json), found none in {model}")
        model = SpinMeRoundPipeline.from_pretrained(model, local_files_only=True)
        model.set_progress_bar_config(disable=True)
    identity, conditioning = _given(dataset, params)
    cameras = params.views.cameras()
    output = model(
        cameras,
        identity=identity,
        conditioning=conditioning,
        guidance_scale=params.guidance_scale,
        schedule=params.schedule,
        solver=params.solver,
        generator=torch.Generator().manual_seed(params.seed),
        batch_size=params.batch,
        output_type="np",
        progress=progress,
    )
    return write_samples(output, cameras, conditioning, folder)


def _given(dataset: Path | None, params: SampleViewsParams) -> tuple[np.ndarray | None, PosedViews | None]:
    """Identity and conditioning views, as far as they are to be given."""
    if params.condition == "nothing":
        return None, None
    if dataset is None:
        raise ValueError(f"dataset: expected one that holds the head {params.head}, got none")
    data = HeadDataset.open(dataset)
    if params.head not in data.ids:
        raise DatasetError(
            f"{dataset}: head {params.head!r} is not in it; it holds {data.ids[0]} to {data.ids[-1]}, {len(data)} heads"
        )
    subject = data.ids.index(params.head)
    identity = data.identities[subject]
    if params.condition == "identity":
        return identity, None
    arrays = data.read_views(subject, list(params.given), ("rgb", "normals"))
    rgb, normals = (arrays[name].astype(np.float32) / 255 for name in ("rgb", "normals"))
    cameras = Cameras(**data.cameras(subject))[list(params.given)]
    return identity, PosedViews(cameras=cameras, images=rgb, normals=normals)


def write_samples(
    output: SpinMeRoundOutput, cameras: Cameras, conditioning: PosedViews | None, folder: Path
) -> list[Path]:
    """Writes pictures in [0, 1] as PNGs, the cameras' angles, and the contact sheet.

    Raises StorageUnavailable where the folder can't be written.
    """
    with environment_errors(folder):
        return _write_samples(output, cameras, conditioning, folder)


def _write_samples(
    output: SpinMeRoundOutput, cameras: Cameras, conditioning: PosedViews | None, folder: Path
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rgb, normals = to_bytes(np.asarray(output.images)), to_bytes(np.asarray(output.normals))
    files = []
    for kind, pictures in (("view", rgb), ("normals", normals)):
        for number, picture in enumerate(pictures):
            files.append(folder / f"{kind}-{number:02d}.png")
            Image.fromarray(picture).save(files[-1])
    angles = [
        {"azimuth_deg": float(azimuth), "elevation_deg": float(elevation)}
        for azimuth, elevation in zip(cameras.azimuth_deg, cameras.elevation_deg, strict=True)
    ]
    (folder / "cameras.json").write_text(json.dumps(angles, indent=1))
    _sheet(rgb, normals, cameras, conditioning).save(folder / "sheet.png")
    return [*files, folder / "cameras.json", folder / "sheet.png"]


def _sheet(rgb: np.ndarray, normals: np.ndarray, cameras: Cameras, conditioning: PosedViews | None) -> Image.Image:
    """Given pictures first, then each view beside its normals."""
    pairs, captions = [np.concatenate([a, b], axis=1) for a, b in zip(rgb, normals, strict=True)], []
    shown = [*(_angles("generated", cameras, view) for view in range(len(cameras)))]
    if conditioning is not None:
        given = zip(to_bytes(np.asarray(conditioning.images)), to_bytes(np.asarray(conditioning.normals)), strict=True)
        pairs = [*(np.concatenate(pair, axis=1) for pair in given), *pairs]
        captions = [_angles("given", conditioning.cameras, view) for view in range(len(conditioning.cameras))]
    return contact_sheet(pairs, [*captions, *shown], style=SheetStyle(columns=4, cell=256))


def _angles(kind: str, cameras: Cameras, view: int) -> str:
    return f"{kind}\nazimuth {cameras.azimuth_deg[view]:.0f}, elevation {cameras.elevation_deg[view]:.0f}"


def to_bytes(pictures: np.ndarray) -> UInt8[np.ndarray, "view height width 3"]:
    """[0, 1] to 0..255."""
    return np.rint(np.clip(pictures, 0.0, 1.0) * 255).astype(np.uint8)
