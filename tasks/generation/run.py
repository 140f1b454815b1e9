"""Sample: views of heads from a trained model, as pictures in a folder.

A head comes from a dataset (its identity, and some of its views as conditioning), from a photo or posed views of one's
own, from an identity alone or between two, or from nothing. What is written is told by `tasks.sample_output`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from spinmeround.models.device import best_device
from spinmeround.models.diffusion.groups import turned_away_deg
from spinmeround.models.diffusion.interpolation import interpolate_identities
from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras, orbit
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, DatasetError, as_config_error, environment_errors
from spinmeround.tasks.generation.inputs import PosedFiles, read_identity, read_on_white, read_square
from spinmeround.tasks.generation.outputs import SampledHead, write_heads
from spinmeround.tasks.generation.params import SampleViewsParams
from spinmeround.tasks.heads.embed import EmbedParams, photo_identity


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One head to sample."""

    name: str
    seed: int
    identity: Float32[np.ndarray, "512"] | None = None
    conditioning: PosedViews | None = None


def run_sampling(
    pipeline: Path | SpinMeRoundPipeline,
    dataset: Path | None,
    params: SampleViewsParams,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    embed: EmbedParams | None = None,
) -> list[Path]:
    """Samples and writes; returns the files. `dataset` is needed where a head of it is named.

    A photo's identity, unless it is given, is found as `embed` says, where that names a detector.

    `progress(done, steps)` follows each step; a pipeline loaded here draws no bar of its own.

    Raises DatasetError for an unknown head or view, ConfigError for a file that is not what it should be, and
    StorageUnavailable where the folder can't be written.
    """
    params.check_files()
    model = load_pipeline(pipeline) if isinstance(pipeline, Path) else pipeline
    cameras, source = params.cameras(), _Source(dataset, model.picture_side, embed or EmbedParams())
    wanted = list(wanted_heads(params, source))
    heads = []
    for number, each in enumerate(wanted):

        def step(done: int, steps: int, number: int = number) -> None:
            if progress is not None:
                progress(number * steps + done, len(wanted) * steps)

        with as_config_error():
            output = model(
                cameras,
                identity=each.identity,
                conditioning=each.conditioning,
                anchored=params.anchored,
                guidance_scale=params.guidance_scale,
                num_inference_steps=params.sampling_steps,
                schedule=params.schedule,
                solver=params.solver,
                normals=params.photo_normals,
                generator=torch.Generator().manual_seed(each.seed),
                batch_size=params.batch,
                output_type="np",
                progress=step,
            )
        heads.append(SampledHead.of(each.name, output, each.conditioning))
    with environment_errors(folder):
        return write_heads(heads, cameras, folder)


def load_pipeline(folder: Path) -> SpinMeRoundPipeline:
    """A trained pipeline on the best device, which draws no bars; raises ConfigError where there is none."""
    if not (folder / "model_index.json").is_file():
        raise ConfigError(f"pipeline: expected a trained pipeline (model_index.json), found none in {folder}")
    model: SpinMeRoundPipeline = SpinMeRoundPipeline.from_pretrained(folder, local_files_only=True)
    model.set_progress_bar_config(disable=True)
    return model.to(best_device())


def wanted_heads(params: SampleViewsParams, source: "_Source") -> Iterator[Wanted]:
    """The heads that are asked for, with what is given of each."""
    if params.condition == "nothing":
        for seed in range(params.seed, params.seed + params.heads):
            yield Wanted(name=f"seed-{seed}", seed=seed)
    elif params.condition == "interpolation":
        assert params.between is not None
        start, end = (source.identity(name) for name in params.between)
        with as_config_error():
            between = interpolate_identities(start, end, params.steps_between, params.way)
        for number, identity in enumerate(between):
            yield Wanted(name=f"step-{number:02d}", seed=params.seed, identity=identity)
    else:
        yield _one_head(params, source)


def _one_head(params: SampleViewsParams, source: "_Source") -> Wanted:
    identity = None if params.identity is None else source.identity(params.identity)
    if params.condition == "views":
        assert params.head is not None
        views = source.views(params.head, list(params.given))
        return Wanted(name=params.head, seed=params.seed, identity=source.identity(params.head), conditioning=views)
    conditioning = None
    if params.condition == "photo":
        assert params.photo is not None
        angles = [params.photo_azimuth_deg], [params.photo_elevation_deg]
        camera = orbit(*angles, radius=params.views.radius, focal=params.views.focal)
        conditioning = PosedViews(cameras=camera, images=source.picture(Path(params.photo))[None])
        if identity is None:
            identity = source.identity_of([Path(params.photo)])
    if params.condition == "posed":
        assert params.posed is not None
        files = PosedFiles.read(Path(params.posed))
        conditioning = source.posed(files)
        if identity is None:
            nearest = np.argsort(turned_away_deg(files.cameras.azimuth_deg))
            identity = source.identity_of([files.images[view] for view in nearest])
    return Wanted(name=params.condition, seed=params.seed, identity=identity, conditioning=conditioning)


class _Source:
    """Identities and pictures, from a dataset and from files."""

    def __init__(self, dataset: Path | None, side: int, embed: EmbedParams) -> None:
        self._dataset, self._side, self._embed = dataset, side, embed

    def identity(self, name: str) -> Float32[np.ndarray, "512"]:
        """Of a head of the dataset, or of a .npy file."""
        if name.endswith(".npy"):
            return read_identity(Path(name))
        data, subject = self._head(name)
        return np.asarray(data.identities[subject], np.float32)

    def identity_of(self, pictures: list[Path]) -> Float32[np.ndarray, "512"] | None:
        """Of the largest face in the first picture that shows one; None where there is nothing to find it by.

        Raises ConfigError where none does, with what is wrong with the first.
        """
        errors = []
        for path in pictures:
            try:
                return photo_identity(np.asarray(read_on_white(path)), self._embed)
            except ValueError as error:
                errors.append(f"{path}: {error}")
        raise ConfigError(errors[0])

    def views(self, head: str, views: list[int]) -> PosedViews:
        """Some views of a head of the dataset, with their normals."""
        data, subject = self._head(head)
        arrays = data.read_views(subject, views, ("rgb", "normals"))
        rgb, normals = (arrays[name].astype(np.float32) / 255 for name in ("rgb", "normals"))
        return PosedViews(cameras=Cameras(**data.cameras(subject))[views], images=rgb, normals=normals)

    def posed(self, files: PosedFiles) -> PosedViews:
        """The frames of a transforms.json, with the pictures that it names."""

        def pictures(paths: list[Path]) -> np.ndarray:
            return np.stack([self.picture(each) for each in paths])

        normals = None if files.normals is None else pictures(files.normals)
        return PosedViews(cameras=files.cameras, images=pictures(files.images), normals=normals)

    def picture(self, path: Path) -> Float32[np.ndarray, "side side 3"]:
        """A square picture at the model's side, on white where it is transparent, in [0, 1]."""
        flat = read_square(path)
        sized = flat.resize((self._side, self._side), Image.Resampling.LANCZOS) if flat.width != self._side else flat
        return np.asarray(sized, np.float32) / 255

    def _head(self, head: str) -> tuple[HeadDataset, int]:
        if self._dataset is None:
            raise ConfigError(f"dataset: expected one that holds the head {head}, got none")
        data = HeadDataset.open(self._dataset)
        if head not in data.ids:
            raise DatasetError(
                f"{self._dataset}: head {head!r} is not in it; it holds {data.ids[0]} to {data.ids[-1]}, "
                f"{len(data)} heads"
            )
        return data, data.ids.index(head)
