"""Contact sheets of fixed heads that the averaged network generates while it trains.

Each head has three rows of columns by view: its given view and the true targets, the generated images, and the normals,
of the given view as the autoencoder returns them and the generated ones; a model without normals lacks the third.
Heads, views and noise are the same at every step, so that two sheets differ by the weights alone. The networks compute
in float32, as those of `spinmeround generate` do. After a sheet, weights, modes and random numbers are those before it.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.models.geometry.cameras import Cameras
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import EnvironmentUnavailable, device_failure, file_failure, one_line
from spinmeround.tasks.loading.posed_views import read_posed_views
from spinmeround.tasks.loading.reader import read_view_identity
from spinmeround.tasks.loading.view_images import read_views
from spinmeround.tasks.pictures.contact_sheet import SheetStyle, contact_sheet, side_by_side, to_uint8
from spinmeround.tasks.training.model.networks import Networks
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.params import TrainParams
from spinmeround.tasks.training.params.phases import TrainingPhase
from spinmeround.tasks.training.state import TrainingState

ROWS = ("given view, then the truth", "generated images", "normals: given, then generated")
"""Captions of the rows of a head."""

Build = Callable[[], Networks]
"""Makes the networks before the first step."""


class Samples:
    """Sheets of the first heads of the split `validation`, or of `train` if that is empty."""

    def __init__(
        self,
        data: HeadDataset,
        params: TrainParams,
        processes: Processes,
        as_pipeline: Callable[[Networks], SpinMeRoundPipeline],
    ) -> None:
        self.data, self.params, self.processes, self.as_pipeline = data, params, processes, as_pipeline
        self.heads = (data.split("validation") or data.split("train"))[: params.samples.heads]
        self.views = fixed_views(data, targets_of(params.phase, params.unet.views))
        self._warned = False

    def __call__(self, state: TrainingState, build: Build, done: int) -> Image.Image | None:
        """Collective: the sheet after `done` steps, of the first process; the others wait.

        None, and a warning the first time, if it can't be made. Raises the failures of a disk or device.
        """
        sheet = None
        with _unchanged_random_numbers(self.processes.device), self._averaged(state, build) as networks:
            if self.processes.is_first:
                sheet = self._attempt(networks, done)
        self.processes.wait()
        return sheet

    def _attempt(self, networks: Networks, done: int) -> Image.Image | None:
        try:
            with _inference(networks, compiled=self.params.compile):
                return self._sheet(networks, done)
        except Exception as error:
            if isinstance(error, EnvironmentUnavailable) or device_failure(error) or file_failure(error):
                raise
            if not self._warned:
                warnings.warn(f"a sheet of samples of this training is left out: {one_line(error)}", stacklevel=4)
            self._warned = True
            return None

    @contextmanager
    def _averaged(self, state: TrainingState, build: Build) -> Iterator[Networks]:
        """Collective: the networks with the average of the training's result, whole in the first process."""
        if self.processes.sharded:
            networks = state.averaged(build)
            yield networks.to(self.processes.device) if self.processes.is_first else networks
            return
        with state.averages.applied(self.params.average.length) if self.processes.is_first else nullcontext():
            yield state.networks

    def _sheet(self, networks: Networks, done: int) -> Image.Image:
        pipeline = self.as_pipeline(networks)
        pipeline.set_progress_bar_config(disable=True)  # type: ignore[no-untyped-call]
        rows, captions = [], []
        for number, subject in enumerate(self.heads):
            made = self._rows(pipeline, subject, seed=self.params.samples.seed + number)
            rows += made
            captions += [f"{self.data.ids[subject]}: {ROWS[0]}", *ROWS[1 : len(made)]]
        style = SheetStyle(columns=1, cell=SheetStyle().cell * len(self.views))
        return contact_sheet(rows, captions, title=f"step {done}", style=style)

    def _rows(self, pipeline: SpinMeRoundPipeline, subject: int, seed: int) -> list[UInt8[np.ndarray, "height row 3"]]:
        """The rows of one head, by view."""
        samples, given, targets = self.params.samples, self.views[0], self.views[1:]
        output = pipeline(
            Cameras(**self.data.cameras(subject))[targets],
            identity=read_view_identity(self.data, subject, given if self.params.identity == "view" else None),
            conditioning_views=read_posed_views(self.data, subject, [given]),
            guidance_scale=samples.guidance_scale,
            num_inference_steps=samples.steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        )
        images = to_uint8(output.images)
        nothing = np.full_like(images[:1], 255)
        rows = [read_views(self.data, subject, self.views).rgb, np.concatenate([nothing, images])]
        if output.normals is not None:
            rows.append(to_uint8(np.concatenate([output.given_normals, output.normals])))
        return [side_by_side(row) for row in rows]


def targets_of(phase: TrainingPhase, views: int) -> int:
    """The targets of the phase's groups with one given view, or, without such groups, as many as its groups have, in a
    network of so many views."""
    found = [group.targets for group in phase.groups if group.conditioning == 1]
    return min(max(found, default=phase.largest), views - 1)


def fixed_views(data: HeadDataset, targets: int) -> list[int]:
    """The most frontal view and so many others, evenly around the head at the height of the eyes."""
    given = data.nearest_view()
    around = [data.nearest_view(360.0 * number / (targets + 1)) for number in range(1, targets + 1)]
    return list(dict.fromkeys([given, *around, *range(data.views)]))[: targets + 1]


@contextmanager
def _unchanged_random_numbers(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def _inference(networks: Networks, *, compiled: bool) -> Iterator[None]:
    """Networks for inference in the block, without compiling them for its shapes, which steps do not have."""
    modes = {module: module.training for module in networks.modules()}
    networks.eval()
    try:
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
