"""Sample: views of heads from a trained model, as pictures in a folder.

A head comes from a dataset (its identity, and some of its views as conditioning), from a photo or posed views of one's
own, from an identity alone or between two, or from nothing. What is written is told by `tasks.sample_output`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from models.device import best_device
from models.diffusion.interpolation import interpolate_identities
from models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
from models.geometry.cameras import Cameras, orbit
from models.geometry.transforms import cameras_of_transforms
from storage.dataset import HeadDataset
from storage.errors import ConfigError, DatasetError, environment_errors, mistakes
from tasks.embed import EmbedParams, photo_identity
from tasks.sample_output import SampledHead, write_heads
from tasks.sample_params import SampleViewsParams, read_document, read_identity


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
    model = load_pipeline(pipeline) if isinstance(pipeline, Path) else pipeline
    cameras, source = params.cameras(), _Source(dataset, model.picture_side, embed or EmbedParams())
    wanted = list(wanted_heads(params, source))
    heads = []
    for number, each in enumerate(wanted):

        def step(done: int, steps: int, number: int = number) -> None:
            if progress is not None:
                progress(number * steps + done, len(wanted) * steps)

        with mistakes():
            output = model(
                cameras,
                identity=each.identity,
                conditioning=each.conditioning,
                anchored=params.anchored,
                guidance_scale=params.guidance_scale,
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
        with mistakes():
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
        camera = orbit([params.photo_azimuth_deg], [params.photo_elevation_deg])
        conditioning = PosedViews(cameras=camera, images=source.picture(Path(params.photo))[None])
        if identity is None:
            identity = source.photo_identity(Path(params.photo))
    if params.condition == "posed":
        assert params.posed is not None
        conditioning = source.posed(Path(params.posed))
    return Wanted(name=params.condition, seed=params.seed, identity=identity, conditioning=conditioning)


def _on_white(path: Path) -> Image.Image:
    try:
        picture = Image.open(path).convert("RGBA")
    except OSError as error:
        raise ConfigError(f"{path}: expected a picture, found none that can be read") from error
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


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

    def photo_identity(self, path: Path) -> Float32[np.ndarray, "512"] | None:
        """Of the face in a photo, None where there is nothing to find it by. Raises ConfigError where it has none."""
        with mistakes(f"{path}: "):
            return photo_identity(np.asarray(_on_white(path)), self._embed)

    def views(self, head: str, views: list[int]) -> PosedViews:
        """Some views of a head of the dataset, with their normals."""
        data, subject = self._head(head)
        arrays = data.read_views(subject, views, ("rgb", "normals"))
        rgb, normals = (arrays[name].astype(np.float32) / 255 for name in ("rgb", "normals"))
        return PosedViews(cameras=Cameras(**data.cameras(subject))[views], images=rgb, normals=normals)

    def posed(self, path: Path) -> PosedViews:
        """The frames of a transforms.json, with the pictures that it names."""
        document = read_document(path)
        with mistakes(f"{path}: "):
            cameras = cameras_of_transforms(document)
        if len(cameras) not in (1, 3):
            raise ConfigError(f"{path}: expected 1 or 3 frames as conditioning views, got {len(cameras)}")
        frames: Any = document["frames"]
        pictures = {
            key: [self.picture(path.parent / frame[key]) for frame in frames if key in frame]
            for key in ("file_path", "normals_file_path")
        }
        for key, found in pictures.items():
            if len(found) not in (len(cameras), 0 if key == "normals_file_path" else len(cameras)):
                raise ConfigError(f"{path}: expected {key} in each frame, found it in {len(found)} of {len(cameras)}")
        normals = pictures["normals_file_path"]
        return PosedViews(
            cameras=cameras, images=np.stack(pictures["file_path"]), normals=np.stack(normals) if normals else None
        )

    def picture(self, path: Path) -> Float32[np.ndarray, "side side 3"]:
        """A square picture at the model's side, on white where it is transparent, in [0, 1]."""
        flat = _on_white(path)
        if flat.width != flat.height:
            raise ConfigError(
                f"{path}: expected a square picture, framed as the dataset's, got {flat.width} x {flat.height}"
            )
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
