"""The trained model's prediction of the target views of a head."""

from collections.abc import Callable

import numpy as np
import torch

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.numbers import check_arrays
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import NOISE, EvaluationViews
from spinmeround.tasks.loading.posed_views import read_posed_views
from spinmeround.tasks.loading.reader import read_view_identity
from spinmeround.tasks.loading.view_draws import draw_rng


def predict_views(
    pipeline: SpinMeRoundPipeline,
    data: HeadDataset,
    views: EvaluationViews,
    params: EvaluateParams,
    on_progress: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Generate a head's target views from its conditioning views and identity; `on_progress` counts sampling steps.

    The prediction has no masks, and normals if the model has them.
    """
    cameras, known = Cameras(**data.cameras(views.subject)), views.conditioning_indices
    seed = draw_rng(params.seed, int(data.seeds[views.subject]), NOISE).integers(2**62)
    output = pipeline(
        cameras[views.targets],
        identity=read_view_identity(data, views.subject, known[0] if known and params.identity == "view" else None),
        conditioning_views=read_posed_views(data, views.subject, known) if known else None,
        anchored=params.anchored,
        guidance_scale=params.guidance_scale,
        schedule=params.schedule,
        solver=params.solver,
        generator=torch.Generator().manual_seed(int(seed)),
        output_type="np",
        on_progress=on_progress,
    )
    made = {"rgb": output.images, "normals": output.normals}
    found = {name: images for name, images in made.items() if images is not None}
    check_arrays(f"evaluate {data.ids[views.subject]}", found)
    return Prediction(**{name: np.rint(images * 255).astype(np.uint8) for name, images in found.items()})
