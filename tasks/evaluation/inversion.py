"""A baseline of the evaluation: the generator's own head that fits the given views best, seen from the target views.

Fitting a generator is what 3D-aware GANs do with a photo. For heads of that very generator it bounds what can be had.
The pictures are those of a method's folder (`tasks.evaluation.methods`); a head is written when it is complete, so an
interrupted run continues with the next one.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spinmeround.models.geometry.cameras import Cameras
from spinmeround.models.geometry.normals import encode_normals, fill_normals_under_mask
from spinmeround.panohead_bridge.protocol import Inversion, InvertibleGenerator
from spinmeround.panohead_bridge.registry import GeneratorConfig
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError, environment_errors, validation_message
from spinmeround.storage.files import make_folder, owned_folder, rename_folder, sweep_owned_folders
from spinmeround.tasks.evaluation.methods import normals_file, picture_file
from spinmeround.tasks.evaluation.params import EvaluateParams
from spinmeround.tasks.evaluation.views import EvaluationViews, choose_views
from spinmeround.tasks.exchange.formats import check_id, png
from spinmeround.tasks.heads.embed import EmbedParams
from spinmeround.tasks.heads.generator import generator_of
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.pictures.webp import cut_out

Options = Mapping[str, Any]


def write_inversions(
    dataset: Path,
    params: EvaluateParams,
    embed: EmbedParams,
    generator: GeneratorConfig,
    options: Options,
    target: Path,
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Fit the generator to the given views of each evaluated head and write its pictures; returns how many were made.

    Heads whose folders are in `target` stay as they are. Raises ConfigError for a generator that can't be inverted, for
    options that it does not take, and if the evaluation gives no view; DatasetError as `choose_views`.
    """
    if not params.conditioning_views:
        raise ConfigError("evaluate.conditioning_views: expected a view to fit the generator to, got 0")
    data = HeadDataset.open(dataset)
    chosen = choose_views(data, params, embed.frontal)
    _invertible(generator)
    with environment_errors(target):
        make_folder(target)
        sweep_owned_folders(scratch := target.parent / f".{target.name}.tmp")
        missing = [views for views in chosen if not (target / check_id(data.ids[views.subject])).exists()]
        write = partial(_write_head, dataset, generator, dict(options), target, scratch)
        for done, _ in enumerate(_mapped(write, missing, workers), start=len(chosen) - len(missing) + 1):
            on_progress(done, len(chosen))
    return len(missing)


def _mapped(write: Callable[[EvaluationViews], None], heads: list[EvaluationViews], workers: int) -> Any:
    if workers <= 1:
        yield from map(write, heads)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, heads)


def _write_head(
    dataset: Path, config: GeneratorConfig, options: Options, target: Path, scratch: Path, views: EvaluationViews
) -> None:
    data = HeadDataset.open(dataset)
    id, cameras = data.ids[views.subject], Cameras(**data.cameras(views.subject))
    given = read_views(data, views.subject, views.conditioning_indices)
    targets = cameras[views.targets]
    try:
        found = _invertible(config).invert(given.rgb, given.mask, cameras[views.conditioning_indices], targets, options)
    except ValidationError as error:
        raise ConfigError(f"--option {validation_message(error)}") from error
    with owned_folder(scratch, "head") as folder:
        (folder / "head").mkdir()
        for name, content in _pictures(found, targets, views.targets).items():
            (folder / "head" / name).write_bytes(content)
        rename_folder(folder / "head", target / id)


def _pictures(found: Inversion, targets: Cameras, views: list[int]) -> dict[str, bytes]:
    """The files of a head, by name: pictures with alpha, and normals if the generator knows them."""
    rgb, mask = found.rendering.rgb, found.rendering.mask
    names = [picture_file("", view).lstrip("/") for view in views]
    files = {name: png(picture) for name, picture in zip(names, cut_out(rgb, mask), strict=True)}
    if found.normals is not None:
        filled = fill_normals_under_mask(found.normals.normals, found.normals.hit, mask)
        maps = encode_normals(filled, mask)
        files |= {normals_file(name): png(each) for name, each in zip(names, maps, strict=True)}
    return files


def _invertible(config: GeneratorConfig) -> InvertibleGenerator:
    """The generator; raises ConfigError if it is not available or can't be inverted."""
    try:
        generator = generator_of(config)
    except ValueError as error:
        raise ConfigError(f"generator: {error}") from error
    if not isinstance(generator, InvertibleGenerator):
        raise ConfigError(
            f"generator.name: expected one that can be fitted to pictures, as procedural and panohead; {config.name!r} "
            "has no method 'invert' (panohead_bridge.protocol.InvertibleGenerator)"
        )
    return generator
