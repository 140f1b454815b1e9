"""Sampling: speed compared with a plain baseline, quality by number of steps, inferred normals, consistency of views.

Without a model, measures only speed, on random weights of the demo's sizes (or the paper's, --size full). With a
pipeline's folder (--model) and its dataset (--dataset), measures everything on held-out heads.
"""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from spinmeround.models.diffusion.latents import decode_images, encode_images
from spinmeround.models.diffusion.params import NoiseSchedule, PhotoNormalsParams, SolverParams, UNetParams
from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras, ViewGrid
from spinmeround.models.geometry.normals import decode_normals
from spinmeround.models.metrics import normal_angular_error_deg, psnr
from spinmeround.models.metrics.consistency import neighbour_consistency
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.evaluation.baselines import MeanTrainingImages
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.loading.posed_views import read_posed_views
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.training.beginning.unets import random_unet
from spinmeround.tasks.training.model.networks import build_text_encoder
from spinmeround.tasks.training.params import TextEncoderParams
from tests.benchmarks._sampling_speed import WORDS, Job, largest_difference, measure

HELD_OUT = ("test", "validation")
PARTS = ("speed", "steps", "normals", "consistency")
COMPARED = ("an eighth apart", "neighbours", "weakest neighbours")
Rows = list[dict[str, Any]]


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of a trained pipeline.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Dataset of the pipeline.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="test or validation; default: both, in this order.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="speed, steps, normals or consistency; default: all.")] = None,
    heads: Annotated[int, typer.Option(min=1, help="Maximum number of held-out heads.")] = 8,
    skip: Annotated[int, typer.Option(min=0, help="Number of held-out heads to skip first.")] = 0,
    views: Annotated[int, typer.Option(min=2, help="Views per head, for speed and consistency.")] = 48,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps, for speed, normals and consistency.")] = 50,
    poses: Annotated[
        int, typer.Option(min=1, help="Azimuths for normals, from one side of the face to the other.")
    ] = 5,
    corrections: Annotated[int, typer.Option(min=1, help="Gradients per step, for normals.")] = 1,
    draws: Annotated[int, typer.Option(min=1, help="Draws of normals, compared with a single draw.")] = 1,
    counts: Annotated[str, typer.Option(help="Numbers of steps to compare, separated by commas.")] = "5,10,20,50",
    guidance: Annotated[float, typer.Option(min=0, help="Guidance scale, for steps and consistency.")] = 3.0,
    repeats: Annotated[int, typer.Option(min=1, help="Timings per configuration; the fastest counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    size: Annotated[str, typer.Option(help="Sizes of random weights without --model: demo or full.")] = "demo",
    way: Annotated[
        list[str] | None,
        typer.Option(help="Options to time, joined with +: batched, bfloat16, float16, channels-last, compiled."),
    ] = None,
) -> Mapping[str, Rows]:
    """Measure speed and quality of sampling."""
    parts = list(part or (PARTS if model else PARTS[:1]))
    if unknown := [name for name in parts if name not in PARTS]:
        raise ConfigError(f"--part: expected some of {', '.join(PARTS)}, got {unknown[0]!r}")
    splits = split or [*HELD_OUT]
    if unknown := [name for name in splits if name not in HELD_OUT]:
        raise ConfigError(f"--split: expected {' or '.join(HELD_OUT)}, the held-out splits, got {unknown[0]!r}")
    if (model is None or dataset is None) and parts != ["speed"]:
        raise ConfigError("--model, --dataset: expected both for all parts but speed")
    ways = [tuple(each.split("+")) for each in way or ["batched", "bfloat16+batched", "compiled+batched"]]
    if unknown := [word for words in ways for word in words if word not in WORDS]:
        raise ConfigError(f"--way: expected some of {', '.join(WORDS)} joined with +, got {unknown[0]!r}")
    tables: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = model or random_model(size, Path(scratch))
        if "speed" in parts:
            shape = {"views": views, "steps": steps, "repeats": repeats, "threads": threads, "device": device}
            tables[f"{views} views x {steps} steps on {device}"] = speed(folder, ways, **shape)
        if parts == ["speed"]:
            return tables
        assert dataset is not None
        torch.set_num_threads(threads)
        held_out = HeldOutHeads(folder, dataset, splits, slice(skip, skip + heads), device, guidance)
        of = f"{len(held_out.subjects)} heads of {' and '.join(splits)} from the {skip + 1}."
        if "steps" in parts:
            numbers = [int(number) for number in counts.split(",")]
            tables[f"quality against steps, 7 views from one, guidance {guidance:g}, {of}"] = against_steps(
                held_out, numbers
            )
        if "normals" in parts:
            title = f"normals of a photo, mean angle in degrees, {of}"
            params = PhotoNormalsParams(steps=max(2, steps), corrections=corrections, draws=draws)
            tables[title] = photo_normals(held_out, params, poses)
        if "consistency" in parts:
            title = f"{views} views warped to each other by the true geometry, PSNR, guidance {guidance:g}, {of}"
            tables[title] = consistency(held_out, views, steps)
    return tables


def random_model(size: str, folder: Path) -> Path:
    """A pipeline with random weights, of the demo's or the paper's sizes."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.heads.autoencoder import load_autoencoder
    from spinmeround.tasks.heads.encode import autoencoder_path

    if size not in ("demo", "full"):
        raise ConfigError(f"--size: expected demo or full, got {size!r}")
    profile = load_profile("demo")
    unet, text = profile.train.unet, profile.train.text_encoder
    if size == "full":
        unet, text = UNetParams(), TextEncoderParams()
    pipeline = SpinMeRoundPipeline(
        unet=random_unet("multi-view", unet, seed=0),
        vae=load_autoencoder(autoencoder_path(profile.encode)),  # not part of the measured time
        text_encoder=build_text_encoder(text, seed=0),
        prompt=text.prompt.model_dump(),
    )
    pipeline.save_pretrained(folder)
    return folder


def speed(folder: Path, ways: Sequence[tuple[str, ...]], **shape: Any) -> Rows:
    """Each configuration compared with the plain baseline, in a separate process each."""
    rows, plain = [], {}
    for words in [("plain",), *ways]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            found = pool.submit(measure, Job(model=folder, ways=words, **shape)).result()
        plain = plain or found
        rows.append(
            {
                "way": " + ".join(words),
                "seconds a view": found["seconds a view"],
                "times as fast": plain["seconds a view"] / found["seconds a view"],
                "peak MB": found["peak MB"],
                "peak MB a view": found["peak MB"] / shape["views"],
                "largest difference": largest_difference(found["latents"], plain["latents"]),
            }
        )
    return rows


class HeldOutHeads:
    """Held-out heads of a dataset with the pipeline trained on it."""

    def __init__(
        self, model: Path, dataset: Path, splits: Sequence[str], heads: slice, device: str, guidance: float
    ) -> None:
        self.pipeline = load_pipeline(model).to(device)
        self.data = HeadDataset.open(dataset)
        self.guidance = guidance
        self.subjects = [subject for split in splits for subject in self.data.split(split)][heads]
        if not self.subjects:
            raise ConfigError(f"--skip: expected held-out heads after the first {heads.start}, {dataset} has none")
        self.cameras = Cameras(**self.data.cameras())
        at = [(azimuth, elevation) for azimuth, elevation in zip(*self._angles(), strict=True)]
        self.front = at.index(min(at, key=lambda angles: abs(angles[0]) + abs(angles[1])))

    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        return (self.cameras.azimuth_deg + 180) % 360 - 180, self.cameras.elevation_deg

    def facing(self, count: int) -> list[int]:
        """`count` views at elevation 0 from one side of the face to the other, nearest in the grid."""
        azimuth, elevation = self._angles()
        level = np.flatnonzero((np.abs(elevation) < 1) & (np.abs(azimuth) < 91))
        wanted = np.linspace(-90, 90, count + 2)[1:-1]
        return [int(view) for view in level[np.abs(azimuth[level] - wanted[:, None]).argmin(axis=1)]]

    def photo(self, subject: int, views: Sequence[int] | None = None, *, normals: bool = True) -> PosedViews:
        """Views of a head, by default the frontal one."""
        posed = read_posed_views(self.data, subject, [self.front] if views is None else views)
        return posed if normals else replace(posed, normals=None)

    @torch.no_grad()
    def through_autoencoder(self, images: np.ndarray) -> np.ndarray:
        """Images encoded and decoded by the autoencoder: the upper bound of quality."""
        vae = self.pipeline.vae
        given = torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).to(vae.device)
        back = torch.cat([decode_images(vae, encode_images(vae, part)) for part in given.split(8)])
        return np.rint((back.permute(0, 2, 3, 1).cpu().numpy().clip(-1, 1) + 1) * 127.5).astype(np.uint8)

    def generate(self, subject: int, cameras: Cameras, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Images and normals as bytes, from the frontal view and the identity."""
        output = self.pipeline(
            cameras,
            identity=self.data.identities[subject],
            conditioning_views=self.photo(subject),
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(int(self.data.seeds[subject])),
            output_type="np",
            **options,
        )
        images, normals = (np.rint(each * 255).astype(np.uint8) for each in (output.images, output.normals))
        return images, normals


def against_steps(held_out: HeldOutHeads, counts: Sequence[int]) -> Rows:
    """PSNR and normals against ground truth, and PSNR against 100 Heun steps from the same noise."""
    level = np.flatnonzero(np.abs(held_out.cameras.elevation_deg) < 1).tolist()
    ring = [view for view in level if view != held_out.front]  # the given view is returned unchanged
    targets = [ring[i * len(ring) // 7] for i in range(7)]
    cameras, rows = held_out.cameras[targets], []

    def generated(subject: int, solver: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
        options = {"schedule": NoiseSchedule(steps=steps), "solver": SolverParams(solver=solver)}
        return held_out.generate(subject, cameras, **options)

    references = {subject: generated(subject, "heun", 100) for subject in held_out.subjects}
    for solver in ("euler", "heun", "dpmpp"):
        for steps in counts:
            scores = []
            for subject in held_out.subjects:
                (images, normals), truth = (
                    generated(subject, solver, steps),
                    read_views(held_out.data, subject, targets),
                )
                true = decode_normals(truth.normals, truth.mask)
                angle = normal_angular_error_deg(decode_normals(normals, truth.mask), true, truth.mask == 255).mean
                scores.append((psnr(images, truth.rgb).mean(), angle, psnr(images, references[subject][0]).mean()))
            means = np.mean(scores, axis=0)
            rows.append(
                {
                    "solver": solver,
                    "steps": steps,
                    "forwards": steps * 2 - 1 if solver == "heun" else steps,
                    "PSNR of the truth": means[0],
                    "normals, degrees": means[1],
                    "PSNR of the solved equation": means[2],
                }
            )
    return rows


def photo_normals(held_out: HeldOutHeads, params: PhotoNormalsParams, poses: int) -> Rows:
    """Algorithm 1 with one draw and with several, compared with the mean training normal map per pose and with no
    guidance.

    A row has the mean angles in degrees at one azimuth; the first row is over all azimuths.
    """
    one, best = params.model_copy(update={"draws": 1}), "Algorithm 1"
    ways = {best: one, "without guidance": one.model_copy(update={"scale": 0.0})}
    if params.draws > 1:
        best = f"Algorithm 1, {params.draws} draws"
        ways = {"Algorithm 1": one, best: params, **ways}
    views = held_out.facing(poses)
    mean = MeanTrainingImages(held_out.data, held_out.data.split("train"))(views)
    angles: dict[str, list[list[float]]] = {}  # method: head: pose
    for subject in held_out.subjects:
        truth = read_views(held_out.data, subject, views)
        maps = {"the mean map": mean.normals}
        for name, way in ways.items():
            found = held_out.pipeline.infer_normals(
                held_out.photo(subject, views, normals=False),
                identity=held_out.data.identities[subject],
                photo_normals=way,
                generator=torch.Generator().manual_seed(int(held_out.data.seeds[subject])),
                output_type="np",
            )
            maps[name] = np.rint(found * 255).astype(np.uint8)
        maps["truth through the autoencoder"] = held_out.through_autoencoder(truth.normals)
        true, inside = decode_normals(truth.normals, truth.mask), truth.mask == 255
        for name, encoded in maps.items():
            off = [
                normal_angular_error_deg(decode_normals(encoded[[i]], truth.mask[[i]]), true[[i]], inside[[i]]).mean
                for i in range(len(views))
            ]
            angles.setdefault(name, []).append(off)
    found = {name: np.array(rows) for name, rows in angles.items()}
    better = found[best] < found["the mean map"]
    azimuths = [f"{(held_out.cameras.azimuth_deg[view] + 180) % 360 - 180:.0f}" for view in views]
    return [
        {
            "azimuth": name,
            **{method: float(off[:, chosen].mean()) for method, off in found.items()},
            "it is better": int(better[:, chosen].sum()),
            "of": int(better[:, chosen].size),
        }
        for name, chosen in [("all", slice(None)), *((name, [i]) for i, name in enumerate(azimuths))]
    ]


def consistency(held_out: HeldOutHeads, views: int, steps: int) -> Rows:
    """Consistency of anchored and unanchored views of a ring, with ground truth images as the upper bound.

    Views of one group agree in either scheme. In a ring of 48, 42 pairs of neighbours share a group unanchored and 45
    anchored; of views an eighth of the ring apart (the distance of anchors), 8 pairs do in either. The latter show
    whether views of different groups agree, so the schemes are compared by them. Further columns: all neighbours; the
    least consistent pair of neighbours without those of the given view, the jump visible as the head turns; and PSNR
    against ground truth, because blurred views are consistent too. `wins` counts the heads for which a row exceeds the
    unanchored one.
    """
    cameras = ViewGrid(azimuths=views, elevations_deg=(0.0,)).cameras()
    generator = generator_of(GeneratorConfig.model_validate(held_out.data.attributes["generator"]))
    side, found = held_out.pipeline.image_side, {}
    for subject in held_out.subjects:
        true = generator.render(generator.sample(int(held_out.data.seeds[subject])), cameras, side)
        depth = np.where(true.mask == 255, true.depth, np.nan).astype(np.float32)
        images = {
            "true pictures": true.rgb,
            "true pictures through the autoencoder": held_out.through_autoencoder(true.rgb),
        }
        for name, anchored in (("anchored", True), ("unanchored", False)):
            options = {"anchored": anchored, "schedule": NoiseSchedule(steps=steps)}
            images[name] = held_out.generate(subject, cameras, **options)[0]
        for name, shown in images.items():
            near = neighbour_consistency(shown, depth, cameras)
            far = neighbour_consistency(shown, depth, cameras, offset=max(1, views // 8))
            measured = {
                "an eighth apart": far.psnr,
                "neighbours": near.psnr,
                "weakest neighbours": float(np.nanmin(near.pairs[1:-1])),
                "to the truth": psnr(shown, true.rgb).mean() if name != "true pictures" else float("nan"),
                "seen": near.visible,
            }
            found.setdefault(name, []).append(measured)
    free, rows = found["unanchored"], []
    for name, heads in found.items():
        row: dict[str, Any] = {"views": name}
        for column in heads[0]:
            row[column] = float(np.mean([head[column] for head in heads]))
            if column in COMPARED:
                better = sum(head[column] > other[column] for head, other in zip(heads, free, strict=True))
                row[f"{column}: wins"] = better
        rows.append(row)
    return rows
