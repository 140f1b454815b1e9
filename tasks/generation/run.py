"""Generates views of heads with a trained model and writes them to a folder.

What the model is given is `params.given`; `tasks.generation.outputs` describes the files.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from spinmeround.models.device import best_device
from spinmeround.models.diffusion.pipeline import PosedViews, SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras, absolute_azimuth_deg, orbit
from spinmeround.models.identity.interpolation import interpolate_identities
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.documents import read_json_object
from spinmeround.storage.errors import ConfigError, DatasetError, as_config_error, environment_errors, one_line
from spinmeround.tasks.generation.inputs import (
    PosedFiles,
    check_inputs,
    find_views,
    photo_angles,
    read_identity,
    read_square,
    target_cameras,
)
from spinmeround.tasks.generation.outputs import GeneratedHead, write_heads
from spinmeround.tasks.generation.params import (
    GenerationParams,
    HeadInput,
    IdentityInput,
    InterpolationInput,
    NothingInput,
    PhotoInput,
    ViewsInput,
    is_picture,
)
from spinmeround.tasks.heads.embed import EmbedParams, photo_identity
from spinmeround.tasks.loading.posed_views import read_posed_views
from spinmeround.tasks.loading.reader import read_view_identity
from spinmeround.tasks.pictures.matting import cut_out
from spinmeround.tasks.pictures.photos import NO_NORMAL, WHITE, read_photo
from spinmeround.tasks.weights.networks import AUTOENCODERS, load_network

INDEX = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class HeadRequest:
    """One head to generate."""

    name: str
    seed: int
    identity: Float32[np.ndarray, "512"] | None = None
    conditioning_views: PosedViews | None = None


def run_generation(
    pipeline: Path | SpinMeRoundPipeline,
    dataset: Path | None,
    params: GenerationParams,
    folder: Path,
    *,
    embed: EmbedParams | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Generate the views of `params` and write them to `folder`; returns the files.

    Args:
        pipeline: a trained pipeline, or its folder.
        dataset: the dataset whose heads `params` names, if it names any.
        embed: the face detector and recognition network that find the identity of given pictures.
        on_progress: called after each sampling step with the steps done and their total.

    Raises:
        DatasetError: the dataset does not have the named head.
        ConfigError: a file is defective.
        StorageUnavailable: the folder can't be written.
    """
    check_inputs(params)
    model = load_pipeline(pipeline) if isinstance(pipeline, Path) else pipeline
    cameras = target_cameras(params)
    requests = list(head_requests(params, InputReader(dataset, model.image_side, embed or EmbedParams())))
    heads = []
    for number, request in enumerate(requests):

        def step(done: int, steps: int, number: int = number) -> None:
            if on_progress is not None:
                on_progress(number * steps + done, len(requests) * steps)

        heads.append(generate_head(model, request, cameras, params, on_progress=step))
    with environment_errors(folder):
        return write_heads(heads, cameras, folder)


def generate_head(
    model: SpinMeRoundPipeline,
    request: HeadRequest,
    cameras: Cameras,
    params: GenerationParams,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> GeneratedHead:
    """Generate the views of one head; raises ConfigError for a request that the model can't fulfil."""
    with as_config_error():
        output = model(
            cameras,
            identity=request.identity,
            conditioning_views=request.conditioning_views,
            anchored=params.anchored,
            guidance_scale=params.guidance_scale,
            schedule=params.schedule,
            solver=params.solver,
            photo_normals=params.photo_normals,
            generator=torch.Generator().manual_seed(request.seed),
            batch_size=params.batch,
            output_type="np",
            on_progress=on_progress,
        )
    return GeneratedHead.of(request.name, output, request.conditioning_views)


def load_pipeline(folder: Path) -> SpinMeRoundPipeline:
    """Load a trained pipeline on the best device, without progress bars.

    Raises ConfigError if there is none, or its networks are incomplete or not finite.
    """
    if not (folder / INDEX).is_file():
        raise ConfigError(f"pipeline: expected a trained pipeline ({INDEX}), found none in {folder}")
    read_json_object(folder / INDEX, "the parts of a pipeline")
    parts = {
        name: load_network(folder / name, *kinds, field="pipeline")
        for name, kinds in (("unet", ("MultiviewUNet",)), ("vae", AUTOENCODERS), ("text_encoder", ("CLIPTextModel",)))
    }
    try:
        model: SpinMeRoundPipeline = SpinMeRoundPipeline.from_pretrained(folder, **parts, local_files_only=True)
    except Exception as error:  # whatever diffusers raises, the file does not fit
        raise ConfigError(
            f"pipeline: {folder / INDEX}: expected that of a pipeline, found {one_line(error)}"
        ) from error
    return ready_pipeline(model)


def ready_pipeline(model: SpinMeRoundPipeline) -> SpinMeRoundPipeline:
    """The pipeline on the best device, without progress bars."""
    model.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
    return model.to(best_device())


def head_requests(params: GenerationParams, reader: "InputReader") -> Iterator[HeadRequest]:
    """The heads to generate, each with its identity and conditioning views."""
    given, seed = params.given, params.seed
    match given:
        case NothingInput():
            for each in range(seed, seed + given.heads):
                yield HeadRequest(name=f"seed-{each}", seed=each)
        case InterpolationInput():
            start, end = reader.identity(given.start), reader.identity(given.end)
            with as_config_error():
                between = interpolate_identities(start, end, given.heads, given.method)
            for number, identity in enumerate(between):
                yield HeadRequest(name=f"step-{number:02d}", seed=seed, identity=identity)
        case IdentityInput():
            yield HeadRequest(name=given.kind, seed=seed, identity=reader.identity(given.identity))
        case HeadInput():
            identity, views = reader.view_identity(given.head, given.views), reader.views(given.head, given.views)
            yield HeadRequest(name=given.head, seed=seed, identity=identity, conditioning_views=views)
        case PhotoInput():
            yield _photo_request(params, given, reader)
        case ViewsInput():
            yield _views_request(params, given, reader)


def _photo_request(params: GenerationParams, given: PhotoInput, reader: "InputReader") -> HeadRequest:
    azimuth_deg, elevation_deg = photo_angles(given)
    camera = orbit([azimuth_deg], [elevation_deg], radius=params.views.radius, focal=params.views.focal)
    views = PosedViews(cameras=camera, images=reader.picture(Path(given.file), given.matting)[None])
    identity = reader.identity_or_face(given.identity, [Path(given.file)])
    return HeadRequest(name=given.kind, seed=params.seed, identity=identity, conditioning_views=views)


def _views_request(params: GenerationParams, given: ViewsInput, reader: "InputReader") -> HeadRequest:
    files = PosedFiles.read(Path(given.file), undistort=given.undistort)
    most_frontal_first = np.argsort(absolute_azimuth_deg(files.cameras.azimuth_deg))
    identity = reader.identity_or_face(given.identity, [files.images[view] for view in most_frontal_first])
    views = reader.posed(files, given.matting)
    return HeadRequest(name=given.kind, seed=params.seed, identity=identity, conditioning_views=views)


class InputReader:
    """Reads identities and pictures, from a dataset and from files, at the model's resolution `side`."""

    def __init__(self, dataset: Path | None, side: int, embed: EmbedParams) -> None:
        self._dataset, self._side, self._embed = dataset, side, embed

    def identity(self, name: str) -> Float32[np.ndarray, "512"]:
        """The identity of a head of the dataset, of a .npy file, or of the largest face in a photo."""
        if name.endswith(".npy"):
            return read_identity(Path(name))
        if is_picture(name):
            return self._of_photo(Path(name))
        data, subject = self._head(name)
        return np.asarray(data.identities[subject], np.float32)

    def view_identity(self, head: str, views: tuple[str, ...]) -> Float32[np.ndarray, "512"]:
        """The identity of a head as its given view nearest to the front shows it."""
        data, subject = self._head(head)
        cameras = Cameras(**data.cameras(subject))
        found = find_views(cameras, views)
        front = min(found, key=lambda view: float(absolute_azimuth_deg(cameras.azimuth_deg)[view]))
        return read_view_identity(data, subject, front)

    def identity_or_face(self, name: str | None, pictures: list[Path]) -> Float32[np.ndarray, "512"] | None:
        """A named identity, or that of the largest face in the first picture with one; None without a detector.

        Raises ConfigError where no picture shows a face, with the problem of the first.
        """
        if name is not None:
            return self.identity(name)
        errors = []
        for path in pictures:
            try:
                return photo_identity(np.asarray(read_photo(path).picture), self._embed)
            except ValueError as error:
                errors.append(f"{path}: {error}")
        raise ConfigError(errors[0])

    def _of_photo(self, path: Path) -> Float32[np.ndarray, "512"]:
        found = self.identity_or_face(None, [path])
        if found is None:
            raise ConfigError(f"{path}: expected a face detector (embed.pack) to find the face in it, got none")
        return found

    def views(self, head: str, views: tuple[str, ...]) -> PosedViews:
        """Named views of a head of the dataset, with their normals."""
        data, subject = self._head(head)
        return read_posed_views(data, subject, find_views(Cameras(**data.cameras(subject)), views))

    def posed(self, files: PosedFiles, matting: str | None = None) -> PosedViews:
        """The frames of a transforms.json, with the pictures that it names."""
        images, normals = [], []
        for number, path in enumerate(files.images):
            images.append(self._flat(files.as_pinhole(number, read_square(path).picture, WHITE), matting))
        for number, path in enumerate(files.normals or []):
            picture = read_square(path, normals=True).picture
            normals.append(self._sized(files.as_pinhole(number, picture, NO_NORMAL)))
        return PosedViews(
            cameras=files.cameras, images=np.stack(images), normals=np.stack(normals) if normals else None
        )

    def picture(self, path: Path, matting: str | None = None) -> Float32[np.ndarray, "side side 3"]:
        """A square picture at the model's resolution, in [0, 1], on white where it is transparent or `matting` cuts."""
        return self._flat(read_square(path).picture, matting)

    def _flat(self, picture: Image.Image, matting: str | None) -> Float32[np.ndarray, "side side 3"]:
        return self._sized(picture if matting is None else cut_out(picture, Path(matting)))

    def _sized(self, flat: Image.Image) -> Float32[np.ndarray, "side side 3"]:
        sized = flat.resize((self._side, self._side), Image.Resampling.LANCZOS) if flat.width != self._side else flat
        return np.asarray(sized, np.float32) / 255

    def _head(self, head: str) -> tuple[HeadDataset, int]:
        if self._dataset is None:
            raise ConfigError(f"dataset: expected one that contains the head {head}, got none")
        data = HeadDataset.open(self._dataset)
        if head not in data.ids:
            raise DatasetError(
                f"{self._dataset}: expected one of its {len(data)} heads, {data.ids[0]} to {data.ids[-1]}, got {head!r}"
            )
        return data, data.ids.index(head)
