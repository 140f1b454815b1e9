"""Sampling: speed beside a plain implementation, quality against steps, inferred normals, consistency of anchors.

Without a model, only speed is measured, on random weights of the demo's sizes (or of the paper's, --size full). With
one (`--model`, a pipeline's folder, and `--dataset`) all is, on heads that it was not trained on.
"""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
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
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.training.params import TextEncoderParams
from spinmeround.tasks.training.state import build_networks
from tests.benchmarks._sampling_speed import WORDS, Job, largest_difference, measure

UNSEEN = ("test", "validation")
PARTS = ("speed", "steps", "normals", "consistency")
COMPARED = ("an eighth apart", "neighbours", "weakest neighbours")
Rows = list[dict[str, Any]]


def main(
    model: Annotated[Path | None, typer.Option(help="Folder of a trained pipeline.")] = None,
    dataset: Annotated[Path | None, typer.Option(help="Its dataset.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="test or validation; else both, in this order.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="speed, steps, normals, consistency; else all.")] = None,
    heads: Annotated[int, typer.Option(min=1, help="Unseen heads, at most.")] = 8,
    skip: Annotated[int, typer.Option(min=0, help="Unseen heads to leave out before them.")] = 0,
    views: Annotated[int, typer.Option(min=2, help="Views of a head, of speed and consistency.")] = 48,
    steps: Annotated[int, typer.Option(min=1, help="Steps, of speed, normals and consistency.")] = 50,
    poses: Annotated[int, typer.Option(min=1, help="Azimuths of normals, from one side of the face to the other.")] = 5,
    corrections: Annotated[int, typer.Option(min=1, help="Gradients a step of normals.")] = 1,
    draws: Annotated[int, typer.Option(min=1, help="Samples of normals, measured beside one.")] = 1,
    counts: Annotated[str, typer.Option(help="Numbers of steps to compare.")] = "5,10,20,50",
    guidance: Annotated[float, typer.Option(min=0, help="Classifier-free, of steps and consistency.")] = 3.0,
    repeats: Annotated[int, typer.Option(min=1, help="Timings of each way; the best counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    size: Annotated[str, typer.Option(help="demo or full: sizes of random weights, where there is no model.")] = "demo",
    way: Annotated[
        list[str] | None, typer.Option(help="To time: batched, or bfloat16, float16, channels-last, compiled with +.")
    ] = None,
) -> Mapping[str, Rows]:
    """Measure sampling."""
    asked = list(part or (PARTS if model else PARTS[:1]))
    if unknown := [name for name in asked if name not in PARTS]:
        raise ConfigError(f"--part: expected some of {', '.join(PARTS)}, got {unknown[0]!r}")
    splits = split or [*UNSEEN]
    if unknown := [name for name in splits if name not in UNSEEN]:
        raise ConfigError(f"--split: expected {' or '.join(UNSEEN)}, on which no model is trained, got {unknown[0]!r}")
    if (model is None or dataset is None) and asked != ["speed"]:
        raise ConfigError("--model, --dataset: expected both for all parts but speed")
    ways = [tuple(each.split("+")) for each in way or ["batched", "bfloat16+batched", "compiled+batched"]]
    if unknown := [word for words in ways for word in words if word not in WORDS]:
        raise ConfigError(f"--way: expected some of {', '.join(WORDS)} with + between, got {unknown[0]!r}")
    tables: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = model or random_model(size, Path(scratch))
        if "speed" in asked:
            shape = {"views": views, "steps": steps, "repeats": repeats, "threads": threads, "device": device}
            tables[f"{views} views x {steps} steps on {device}"] = speed(folder, ways, **shape)
        if asked == ["speed"]:
            return tables
        assert dataset is not None
        torch.set_num_threads(threads)
        unseen = Unseen(folder, dataset, splits, slice(skip, skip + heads), device, guidance)
        of = f"{len(unseen.subjects)} heads of {' and '.join(splits)} from the {skip + 1}."
        if "steps" in asked:
            numbers = [int(number) for number in counts.split(",")]
            tables[f"quality against steps, 7 views from one, guidance {guidance:g}, {of}"] = against_steps(
                unseen, numbers
            )
        if "normals" in asked:
            title = f"normals of a photo, mean angle in degrees, {of}"
            params = PhotoNormalsParams(steps=max(2, steps), corrections=corrections, draws=draws)
            tables[title] = photo_normals(unseen, params, poses)
        if "consistency" in asked:
            title = f"{views} views warped to each other by the true geometry, PSNR, guidance {guidance:g}, {of}"
            tables[title] = consistency(unseen, views, steps)
    return tables


def random_model(size: str, folder: Path) -> Path:
    """A pipeline of the demo's or the paper's sizes with random weights."""
    from spinmeround.flows.profile import load_profile
    from spinmeround.tasks.heads.autoencoder import load_autoencoder
    from spinmeround.tasks.heads.encode import autoencoder_path

    if size not in ("demo", "full"):
        raise ConfigError(f"--size: expected demo or full, got {size!r}")
    profile = load_profile("demo")
    unet, text = profile.train.unet, profile.train.text_encoder
    if size == "full":
        unet, text = UNetParams(), TextEncoderParams()
    networks = build_networks(unet, text, seed=0)
    pipeline = SpinMeRoundPipeline(
        unet=networks.unet,
        vae=load_autoencoder(autoencoder_path(profile.encode)),  # speed is told without the autoencoder
        text_encoder=networks.prompt_encoder.text_encoder,
        prompt=text.prompt.model_dump(),
    )
    pipeline.save_pretrained(folder)
    return folder


def speed(folder: Path, ways: Sequence[tuple[str, ...]], **shape: Any) -> Rows:
    """Each way beside the plain one, in the same run, each in a process of its own."""
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


class Unseen:
    """Heads that the model was not trained on, its pipeline, and what it is asked of them."""

    def __init__(
        self, model: Path, dataset: Path, splits: Sequence[str], heads: slice, device: str, guidance: float
    ) -> None:
        self.pipeline = load_pipeline(model).to(device)
        self.data = HeadDataset.open(dataset)
        self.guidance = guidance
        self.subjects = [subject for split in splits for subject in self.data.split(split)][heads]
        if not self.subjects:
            raise ConfigError(f"--skip: expected unseen heads after the first {heads.start}, {dataset} has none")
        self.cameras = Cameras(**self.data.cameras())
        at = [(azimuth, elevation) for azimuth, elevation in zip(*self._angles(), strict=True)]
        self.front = at.index(min(at, key=lambda angles: abs(angles[0]) + abs(angles[1])))

    def _angles(self) -> tuple[np.ndarray, np.ndarray]:
        return (self.cameras.azimuth_deg + 180) % 360 - 180, self.cameras.elevation_deg

    def facing(self, count: int) -> list[int]:
        """So many views at eye level that show part of the face, from one side to the other, as the grid has them."""
        azimuth, elevation = self._angles()
        level = np.flatnonzero((np.abs(elevation) < 1) & (np.abs(azimuth) < 91))
        wanted = np.linspace(-90, 90, count + 2)[1:-1]
        return [int(view) for view in level[np.abs(azimuth[level] - wanted[:, None]).argmin(axis=1)]]

    def photo(self, subject: int, views: Sequence[int] | None = None, *, normals: bool = True) -> PosedViews:
        """Views of a head, by default the frontal one."""
        views = [self.front] if views is None else list(views)
        arrays = self.data.read_views(subject, views, ("rgb", "normals"))
        return PosedViews(
            cameras=self.cameras[views],
            images=arrays["rgb"].astype(np.float32) / 255,
            normals=arrays["normals"].astype(np.float32) / 255 if normals else None,
        )

    @torch.no_grad()
    def through_autoencoder(self, pictures: np.ndarray) -> np.ndarray:
        """What is left of pictures that go through latents and back: no sampling can do better on the whole."""
        vae = self.pipeline.vae
        given = torch.from_numpy(pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).to(vae.device)
        back = torch.cat([decode_images(vae, encode_images(vae, part)) for part in given.split(8)])
        return np.rint((back.permute(0, 2, 3, 1).cpu().numpy().clip(-1, 1) + 1) * 127.5).astype(np.uint8)

    def sample(self, subject: int, cameras: Cameras, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        """Images and normals as bytes, from the frontal view and the identity."""
        output = self.pipeline(
            cameras,
            identity=self.data.identities[subject],
            conditioning=self.photo(subject),
            guidance_scale=self.guidance,
            generator=torch.Generator().manual_seed(int(self.data.seeds[subject])),
            output_type="np",
            **options,
        )
        images, normals = (np.rint(pictures * 255).astype(np.uint8) for pictures in (output.images, output.normals))
        return images, normals


def against_steps(unseen: Unseen, counts: Sequence[int]) -> Rows:
    """PSNR and normals against the truth, and how far from where the same noise ends with 100 steps of Heun."""
    level = np.flatnonzero(np.abs(unseen.cameras.elevation_deg) < 1).tolist()
    ring = [view for view in level if view != unseen.front]  # the given view comes out as it is, whatever the solver
    targets = [ring[i * len(ring) // 7] for i in range(7)]
    cameras, rows = unseen.cameras[targets], []

    def made(subject: int, solver: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
        options = {"schedule": NoiseSchedule(steps=steps), "solver": SolverParams(solver=solver)}
        return unseen.sample(subject, cameras, **options)

    ends = {subject: made(subject, "heun", 100) for subject in unseen.subjects}
    for solver in ("euler", "heun", "dpmpp"):
        for steps in counts:
            scores = []
            for subject in unseen.subjects:
                (images, normals), truth = made(subject, solver, steps), read_views(unseen.data, subject, targets)
                true = decode_normals(truth.normals, truth.mask)
                angle = normal_angular_error_deg(decode_normals(normals, truth.mask), true, truth.mask == 255).mean
                scores.append((psnr(images, truth.rgb).mean(), angle, psnr(images, ends[subject][0]).mean()))
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


def photo_normals(unseen: Unseen, params: PhotoNormalsParams, poses: int) -> Rows:
    """Algorithm 1, one sample and several, beside the mean normal map of each pose over the training heads,
    and beside no guidance.

    A row tells the mean angles in degrees at one azimuth, the first row those over all.
    """
    one, best = params.model_copy(update={"draws": 1}), "Algorithm 1"
    ways = {best: one, "without guidance": one.model_copy(update={"scale": 0.0})}
    if params.draws > 1:
        best = f"Algorithm 1, {params.draws} draws"
        ways = {"Algorithm 1": one, best: params, **ways}
    views = unseen.facing(poses)
    mean = MeanTrainingImages(unseen.data, unseen.data.split("train"))(views)
    angles: dict[str, list[list[float]]] = {}  # method: head: pose
    for subject in unseen.subjects:
        truth = read_views(unseen.data, subject, views)
        maps = {"the mean map": mean.normals}
        for name, way in ways.items():
            found = unseen.pipeline.infer_normals(
                unseen.photo(subject, views, normals=False),
                identity=unseen.data.identities[subject],
                normals=way,
                generator=torch.Generator().manual_seed(int(unseen.data.seeds[subject])),
                output_type="np",
            )
            maps[name] = np.rint(found * 255).astype(np.uint8)
        maps["truth through the autoencoder"] = unseen.through_autoencoder(truth.normals)
        true, inside = decode_normals(truth.normals, truth.mask), truth.mask == 255
        for name, encoded in maps.items():
            off = [
                normal_angular_error_deg(decode_normals(encoded[[i]], truth.mask[[i]]), true[[i]], inside[[i]]).mean
                for i in range(len(views))
            ]
            angles.setdefault(name, []).append(off)
    found = {name: np.array(rows) for name, rows in angles.items()}
    better = found[best] < found["the mean map"]
    azimuths = [f"{(unseen.cameras.azimuth_deg[view] + 180) % 360 - 180:.0f}" for view in views]
    return [
        {
            "azimuth": name,
            **{method: float(off[:, chosen].mean()) for method, off in found.items()},
            "it is better": int(better[:, chosen].sum()),
            "of": int(better[:, chosen].size),
        }
        for name, chosen in [("all", slice(None)), *((name, [i]) for i, name in enumerate(azimuths))]
    ]


def consistency(unseen: Unseen, views: int, steps: int) -> Rows:
    """Anchored beside unanchored sampling of the same ring, and the true pictures of it as the bound.

    Views that one group holds agree in either scheme. Of the neighbours in a ring of 48 one group holds 42 pairs
    unanchored and 45 anchored; of the views an eighth of the ring apart (the distance of anchors) 8 pairs in either. So
    these tell what anchors are for, whether views of different groups agree, and the schemes are compared by them.
    Beside them are all neighbours and the two that agree least, the jump that is seen as the head turns (those of the
    given view, which is true, do not count there), and how near the views are to the truth, since blur agrees with
    itself, too. `wins` are the heads for which a row is above the unanchored one.
    """
    cameras = ViewGrid(azimuths=views, elevations_deg=(0.0,)).cameras()
    generator = generator_of(GeneratorConfig.model_validate(unseen.data.attributes["generator"]))
    side, found = unseen.pipeline.image_side, {}
    for subject in unseen.subjects:
        true = generator.render(generator.sample(int(unseen.data.seeds[subject])), cameras, side)
        depth = np.where(true.mask == 255, true.depth, np.nan).astype(np.float32)
        pictures = {
            "true pictures": true.rgb,
            "true pictures through the autoencoder": unseen.through_autoencoder(true.rgb),
        }
        for name, anchored in (("anchored", True), ("unanchored", False)):
            options = {"anchored": anchored, "schedule": NoiseSchedule(steps=steps)}
            pictures[name] = unseen.sample(subject, cameras, **options)[0]
        for name, shown in pictures.items():
            near = neighbour_consistency(shown, depth, cameras)
            far = neighbour_consistency(shown, depth, cameras, apart=max(1, views // 8))
            measured = {
                "an eighth apart": far.psnr,
                "neighbours": near.psnr,
                "weakest neighbours": float(np.nanmin(near.pairs[1:-1])),
                "to the truth": psnr(shown, true.rgb).mean() if name != "true pictures" else float("nan"),
                "seen": near.seen,
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
