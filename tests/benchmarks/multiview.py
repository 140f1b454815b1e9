"""Quality of the shipped multiview model on unseen heads, against copying the input and the mean training picture.

All heads are seen from the same 24 cameras, so that the mean over the training heads has a picture for each. From one
or three given views the model generates ten others all round. A sample of the posterior has a larger squared error than
the posterior's mean, so one draw and the mean of several are measured, each with 95% bootstrap intervals over heads.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from jaxtyping import UInt8

from spinmeround.models.diffusion.params import NoiseSchedule, SolverParams
from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import decode_normals, encode_normals, world_normals_to_camera
from spinmeround.models.metrics.statistics import mean_interval
from spinmeround.storage.dataset import HeadDataset, list_versions
from spinmeround.storage.weights import embedded_weights
from spinmeround.tasks.embedded.heads import make_heads_dataset
from spinmeround.tasks.embedded.params import FIRST_SEED, HeadsParams, OrbitViews
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages, nearest_input_view
from spinmeround.tasks.evaluation.evaluator import Evaluator
from spinmeround.tasks.evaluation.model import predict_views
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.prediction import Prediction
from spinmeround.tasks.evaluation.views import EvaluationViews, choose_views
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side

HEADS = FIRST_SEED + 2_000_000
"""Generator's seed of the first head; no embedded weights were trained on these."""

METRICS = ("psnr", "ssim", "identity_similarity", "normal_angular_error_deg")
Scores = dict[str, list[float]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is generated: from how many given views, at what guidance, and the mean of how many draws."""

    given: int
    guidance: float
    draws: int

    def __str__(self) -> str:
        mean = "one draw" if self.draws == 1 else f"mean of {self.draws} draws"
        return f"model, {self.given} given, guidance {self.guidance:g}, {mean}"


def evaluation_heads(cache: Path, heads: int, workers: int) -> HeadDataset:
    """Twice to three times as many heads as asked from the same cameras, a third of them in the split `test`."""
    params = HeadsParams(
        views=OrbitViews(views=24, max_elevation_deg=30.0, shared=True),
        heads=3 * heads + heads // 4,
        first_seed=HEADS,
        validation_share=0.0,
        test_share=1 / 3,
        workers=workers,
    )
    folder = cache / f"heads-{params.heads}"
    if not list_versions(folder):
        make_heads_dataset(params, EncodeParams(), folder, typer.echo)
    return HeadDataset.open(folder / list_versions(folder)[-1].folder)


def mean_of(draws: Sequence[Prediction]) -> Prediction:
    """The mean of several predictions of the same views; normals by the direction of their mean."""
    rgb = np.rint(np.mean([draw.rgb.astype(np.float32) for draw in draws], axis=0)).astype(np.uint8)
    maps = [decode_normals(draw.normals, draw.opacity) for draw in draws if draw.normals is not None]
    if not maps:
        return Prediction(rgb=rgb)
    normals = np.sum(maps, axis=0)
    unit = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    return Prediction(rgb=rgb, normals=encode_normals(unit, draws[0].opacity))


def measure_model(
    pipeline: SpinMeRoundPipeline,
    data: HeadDataset,
    setting: Setting,
    params: EvaluateParams,
    evaluate: Evaluator,
) -> Scores:
    """The metrics of each head; heads without a value of a metric are left out of it."""
    chosen = params.model_copy(update={"conditioning_views": setting.given, "guidance_scale": setting.guidance})
    scores: Scores = defaultdict(list)
    for done, views in enumerate(choose_views(data, chosen, EmbedParams().frontal), start=1):
        draws = [
            predict_views(pipeline, data, views, chosen.model_copy(update={"seed": chosen.seed + draw}))
            for draw in range(setting.draws)
        ]
        truth = read_views(data, views.subject, views.targets)
        predicted = draws[0] if len(draws) == 1 else mean_of(draws)
        add(scores, evaluate(views, predicted, truth).metrics)
        if done % 10 == 0:
            typer.echo(f"{setting}: {done} heads")
    return scores


def measure_baselines(
    data: HeadDataset,
    params: EvaluateParams,
    evaluate: Evaluator,
) -> dict[str, Scores]:
    """The same metrics of the nearest given view and of the mean training picture, from one given view."""
    mean_image = MeanTrainingImages(data, data.split("train"))
    found: dict[str, Scores] = {"nearest given view": defaultdict(list), "mean training picture": defaultdict(list)}
    for views in choose_views(data, params, EmbedParams().frontal):
        cameras, truth = Cameras(**data.cameras(views.subject)), read_views(data, views.subject, views.targets)
        given = read_views(data, views.subject, views.conditioning_indices)
        copied = nearest_input_view(given, cameras[views.conditioning_indices], cameras[views.targets])
        add(found["nearest given view"], evaluate(views, Prediction.of(copied), truth).metrics)
        add(found["mean training picture"], evaluate(views, Prediction.of(mean_image(views.targets)), truth).metrics)
    return found


def write_sheet(pipeline: SpinMeRoundPipeline, data: HeadDataset, params: EvaluateParams, to: Path) -> None:
    """Four unseen heads, each with its given view and six others: truth, generated, and both for the normals."""
    rows, captions = [], []
    for subject in data.split("test")[:4]:
        around = data.views // 6
        views = EvaluationViews(subject=subject, conditioning_indices=[0], targets=list(range(2, data.views, around)))
        truth = read_views(data, subject, [0, *views.targets])
        found = predict_views(pipeline, data, views, params)
        empty, cameras = np.full_like(truth.rgb[:1], 255), Cameras(**data.cameras(subject))
        halves = [(found.rgb, truth.rgb, "pictures")]
        halves += [] if found.normals is None else [(found.normals, truth.normals, "normals")]
        for made, true, name in halves:
            shown = made if name == "pictures" else in_camera(made, found.opacity, cameras[views.targets])
            true = true if name == "pictures" else in_camera(true, truth.mask, cameras[[0, *views.targets]])
            rows += [side_by_side(true), side_by_side(np.concatenate([empty, shown]))]
            captions += [f"{data.ids[subject]}: the given view, then true {name}", f"generated {name}"]
    style = SheetStyle(columns=1, cell=SheetStyle().cell * (len(views.targets) + 1))
    contact_sheet(rows, captions, title="Unseen heads from one view", style=style).save(to)


def in_camera(
    encoded: UInt8[np.ndarray, "view h w 3"], mask: UInt8[np.ndarray, "view h w"], cameras: Cameras
) -> UInt8[np.ndarray, "view h w 3"]:
    """Normals as colours in the frame of each camera, as people are used to them."""
    return encode_normals(world_normals_to_camera(decode_normals(encoded, mask), cameras), mask)


def add(scores: Scores, metrics: Mapping[str, float | None]) -> None:
    """Append the metrics that a head has."""
    for name in METRICS:
        if (value := metrics[name]) is not None:
            scores[name].append(value)


def row(name: str, scores: Scores) -> dict[str, Any]:
    """Means with 95% bootstrap intervals over heads."""
    shown: dict[str, Any] = {"prediction": name, "heads": len(scores["psnr"])}
    for metric in METRICS:
        found = mean_interval(scores[metric])
        shown[metric] = f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
    return shown


def main(
    heads: Annotated[int, typer.Option(min=2, help="Unseen heads.")] = 100,
    model: Annotated[str, typer.Option(help="'embedded', or the folder of a pipeline.")] = "embedded",
    given: Annotated[str, typer.Option(help="Numbers of given views.")] = "1,3",
    guidance: Annotated[str, typer.Option(help="Guidance scales.")] = "1,3",
    draws: Annotated[int, typer.Option(min=1, help="Draws in the mean, with one given view at guidance 1.")] = 8,
    steps: Annotated[int, typer.Option(min=2, help="Sampling steps (DPM-Solver++).")] = 16,
    workers: Annotated[int, typer.Option(min=1, help="Rendering processes.")] = 1,
    sheet: Annotated[Path | None, typer.Option(help="File of a contact sheet to write.")] = None,
    cache: Annotated[Path, typer.Option(help="Folder of the heads, which a second run reads.")] = Path("runs/bench"),
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Measure the model and both baselines on unseen heads, each with one input within 45 degrees of the front."""
    data = evaluation_heads(cache, heads, workers)
    pipeline = load_pipeline(embedded_weights("multiview") if model == "embedded" else Path(model))
    params = EvaluateParams(
        heads=heads,
        targets=10,
        facing_deg=45.0,
        schedule=NoiseSchedule(steps=steps),
        solver=SolverParams(solver="dpmpp"),
    )
    evaluate = Evaluator(data, EmbedParams(), None)
    settings = [
        Setting(given=int(number), guidance=float(scale), draws=1)
        for number in given.split(",")
        for scale in guidance.split(",")
    ]
    settings += [Setting(given=1, guidance=1.0, draws=draws)] if draws > 1 else []
    if sheet:
        write_sheet(pipeline, data, params.model_copy(update={"guidance_scale": 1.0}), sheet)
    rows = [row(name, scores) for name, scores in measure_baselines(data, params, evaluate).items()]
    rows += [row(str(each), measure_model(pipeline, data, each, params, evaluate)) for each in settings]
    return {f"{heads} unseen heads, ten views all round": rows}
