"""Contact sheets of fixed heads, made while a training runs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spinmeround.models.diffusion.pipeline import SpinMeRoundPipeline
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import DeviceUnavailable, StorageUnavailable
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.pictures.contact_sheet import SheetStyle
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.observation import samples as module
from spinmeround.tasks.training.observation.metrics import Meter, MetricsLog
from spinmeround.tasks.training.observation.samples import fixed_views, targets_of
from spinmeround.tasks.training.output.result import as_pipeline
from spinmeround.tasks.training.parallel.processes import Processes
from spinmeround.tasks.training.params import SAMPLES, SamplesParams, TrainParams
from spinmeround.tasks.training.params.phases import AdaptPhase, GroupParams, MultiViewPhase, SingleViewPhase
from spinmeround.tasks.training.reads import read_heads
from spinmeround.tasks.training.run import run_training
from spinmeround.tasks.training.state import TrainingState
from tests.support.processes import together

MakeTrainParams = Callable[..., TrainParams]
EVERY_FOUR = SamplesParams(every=4, heads=1, steps=2)
CELL, GAP, FONT = SheetStyle().cell, SheetStyle().gap, SheetStyle().font
TOP, STEP = 2 * GAP + 2 * FONT, CELL + round(1.35 * FONT) + GAP
"""Pixels above the first row of a sheet, below its title, and from row to row."""
INNER = (slice(24, -24), slice(24, -24))
"""Pixels of a picture on a sheet without those of the next picture: Lanczos reads three, which are enlarged by 8."""


class _Killed(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / SAMPLES).glob("*"))


def sheet_names(*steps: int) -> list[str]:
    return [f"step-{step:09d}.webp" for step in steps]


def read(folder: Path, step: int) -> np.ndarray:
    with Image.open(folder / SAMPLES / f"step-{step:09d}.webp") as sheet:
        return np.array(sheet)


def checkpoint_bytes(folder: Path) -> dict[str, bytes]:
    """The tensors of the checkpoints, by file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("step-*/*.safetensors")}


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """A picture on a sheet of four views, in [0, 255]."""
    top, left = TOP + row * STEP, GAP + column * CELL
    return sheet[top : top + CELL, left : left + CELL]


@pytest.fixture(scope="module")
def trained(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folders of a training with samples and of one without; both results are in `out`."""
    root, folders = tmp_path_factory.mktemp("samples"), {}
    for name, samples in (("with", EVERY_FOUR), ("without", SamplesParams())):
        folders[name] = root / name
        (root / name / "out").mkdir(parents=True)
        params = train_params(samples=samples, tensorboard=True, record_every=4)
        run_training(dataset, params, encode_params, root / name, root / name / "out")
    return folders


def test_samples_change_no_bit_of_a_training(trained: dict[str, Path]) -> None:
    """The checkpoints of steps 10 and 12, and the losses, are equal bit by bit; without `every` no folder is made."""
    found = {name: checkpoint_bytes(folder) for name, folder in trained.items()}
    assert {name.split("/")[0] for name in found["with"]} == {"step-000000010", "step-000000012"}
    assert found["with"] == found["without"]
    histories = [json.loads((folder / "out" / "history.json").read_text()) for folder in trained.values()]
    assert histories[0] == histories[1]
    assert not (trained["without"] / SAMPLES).exists()


def test_a_sheet_every_so_many_steps(trained: dict[str, Path], dataset: Path) -> None:
    """Sheets of steps 4, 8 and 12, beside the metrics and in the result, of three rows of four pictures. The first row
    has the true views, the given one first; before the generated images is nothing in its place; sheets differ."""
    assert names(trained["with"]) == names(trained["with"] / "out") == sheet_names(4, 8, 12)
    sheets = [read(trained["with"], step) for step in (4, 8, 12)]
    data = HeadDataset.open(dataset)
    views = fixed_views(data, 3)
    assert (data.cameras()["azimuth_deg"][views[0]], len(set(views))) == (0.0, 4)
    subject = (data.split("validation") or data.split("train"))[0]
    truth = data.read_views(subject, views, ("rgb",))["rgb"]
    for sheet in sheets:
        assert sheet.shape == (TOP + 3 * STEP, 4 * CELL + 2 * GAP, 3)
        for column, picture in enumerate(truth):
            drawn = Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.LANCZOS)
            assert np.array_equal(cell(sheet, 0, column)[INNER], np.asarray(drawn)[INNER])
        assert (cell(sheet, 1, 0)[INNER] == 255).all()
        assert not (cell(sheet, 1, 1)[INNER] == 255).all()
    pictures = [cell(sheet, 1, 2) for sheet in sheets]
    assert not np.array_equal(pictures[0], pictures[2])


def test_tensorboard_has_the_sheets(trained: dict[str, Path]) -> None:
    """The pictures of all three steps, of the size of the files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained["with"] / "logs")).Reload()
    images = events.Images(SAMPLES)
    height, width = read(trained["with"], 4).shape[:2]
    assert [(image.step, image.height, image.width) for image in images] == [
        (step, height, width) for step in (4, 8, 12)
    ]


def test_a_resumed_training_makes_later_sheets_again(
    trained: dict[str, Path], dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Killed after step 8, with a checkpoint of step 5: the sheet of step 8 is removed and made again, and all are
    those of a training without interruption."""

    def kill(done: int, steps: int, loss: float | None) -> None:
        if done == 8:
            raise _Killed

    def look(done: int, steps: int, loss: float | None) -> None:
        if done == 6:
            assert names(tmp_path) == sheet_names(4)

    (tmp_path / "out").mkdir()
    arguments = (dataset, train_params(samples=EVERY_FOUR), encode_params, tmp_path, tmp_path / "out")
    with pytest.raises(_Killed):
        run_training(*arguments, kill)
    assert names(tmp_path) == sheet_names(4, 8)
    run_training(*arguments, look)
    for step in (4, 8, 12):
        assert np.array_equal(read(tmp_path, step), read(trained["with"], step)), step


def test_more_steps_keep_the_sheets_of_a_finished_training(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """A training of two steps, then of four: the result has the sheets of all four."""
    store, found = ArtifactStore(tmp_path / "store"), []
    for steps in (2, 4):
        phase = train_params().multi_view.model_copy(update={"steps": steps})
        params = train_params(multi_view=phase, samples=SamplesParams(every=1, heads=1, steps=1))
        key = make_training(store, dataset, params, encode_params, tmp_path / "training")[1]
        found.append(names(store.verify("multi-view", key).path))
    assert found == [sheet_names(1, 2), sheet_names(1, 2, 3, 4)]


@pytest.mark.parametrize("error", [ValueError("no nose"), RuntimeError("no ears")], ids=lambda error: str(error))
def test_a_sheet_that_fails_ends_no_training(
    error: Exception,
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One warning for two sheets, and the training completes."""

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(SpinMeRoundPipeline, "__call__", fail)
    params = train_params(samples=SamplesParams(every=6))
    with pytest.warns(UserWarning, match=f"a sheet of samples .* left out: {error}") as warned:
        result = run_training(dataset, params, encode_params, tmp_path, tmp_path)
    assert len([each for each in warned if "left out" in str(each.message)]) == 1
    assert (result.steps, names(tmp_path)) == (12, [])


@pytest.mark.parametrize(
    "error", [StorageUnavailable("the disk is full"), DeviceUnavailable("no GPU"), MemoryError()], ids=type
)
def test_faults_of_disk_and_device_end_it(
    error: Exception,
    dataset: Path,
    encode_params: EncodeParams,
    train_params: MakeTrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would end the next step too."""

    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(module, "read_views", fail)
    with pytest.raises(type(error)):
        run_training(dataset, train_params(samples=EVERY_FOUR), encode_params, tmp_path, tmp_path)


def test_a_sheet_leaves_the_state_as_it_was(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams
) -> None:
    """Weights, modes and random numbers after a sheet are those before it, and the networks of the sheet have the
    average as weights; the same sheet is made again."""
    params = train_params(samples=EVERY_FOUR, gradient_checkpointing=True)
    processes = Processes(params)
    state = TrainingState(build_initial_networks(params), params, processes)
    samples = read_heads(dataset, params, encode_params, processes).samples
    assert samples is not None
    with torch.no_grad():
        for average in state.averages.of(params.average.length).values():
            average.mul_(1.5)
    seen: list[dict[str, torch.Tensor]] = []

    def as_pipeline_seen(networks):
        assert not any(each.training for each in networks.modules())
        torch.rand(3)
        seen.append({name: weight.clone() for name, weight in networks.trained().items()})
        return as_pipeline(networks, params, encode_params)

    samples.as_pipeline = as_pipeline_seen
    weights = {name: weight.clone() for name, weight in state.networks.named_parameters()}
    modes, numbers = [each.training for each in state.networks.modules()], torch.random.get_rng_state()
    sheets = [np.asarray(samples(state, lambda: state.networks, 4)) for _ in range(2)]
    assert np.array_equal(*sheets)
    assert all(torch.equal(weight, weights[name]) for name, weight in state.networks.named_parameters())
    assert [each.training for each in state.networks.modules()] == modes
    assert any(modes)
    assert torch.equal(torch.random.get_rng_state(), numbers)
    average = state.averages.of(params.average.length)
    assert all(torch.equal(weight, average[name]) for name, weight in seen[0].items())


@pytest.mark.parametrize("sharding", ["none", "fsdp2"])
def test_the_first_of_several_processes_makes_the_sheet(
    sharding: str, dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """Of two processes, with whole and with divided weights, the first alone returns a sheet; it is that of a process
    alone, because the average before the first step is the initial weights."""
    params = train_params(samples=EVERY_FOUR, sharding=sharding)

    def sheet(rank: int) -> np.ndarray | None:
        processes = Processes(params)
        state = TrainingState(build_initial_networks(params), params, processes)
        samples = read_heads(dataset, params, encode_params, processes).samples
        assert samples is not None
        made = samples(state, lambda: build_initial_networks(params), 4)
        return None if made is None else np.asarray(made)

    first, second = together(2, sheet, tmp_path)
    assert second is None
    assert np.array_equal(first, sheet(0))


def test_the_targets_and_views_of_a_phase(dataset: Path, train_params: MakeTrainParams) -> None:
    """Targets of the groups with one given view, at most those that a network has room for; views are never repeated,
    however few a dataset has."""
    assert targets_of(SingleViewPhase(), 8) == 7
    assert targets_of(MultiViewPhase(groups=(GroupParams(conditioning=1, targets=3),)), 8) == 3
    assert targets_of(MultiViewPhase(groups=(GroupParams(conditioning=0, targets=8),)), 8) == 7
    data = HeadDataset.open(dataset)
    assert sorted(fixed_views(data, 11)) == list(range(12))


def test_single_pictures_have_no_sheets(
    dataset: Path, encode_params: EncodeParams, train_params: MakeTrainParams
) -> None:
    """`adapt` trains a UNet of single pictures without normals."""
    nothing = train_params().multi_view.model_copy(update={"steps": 0})
    params = train_params(adapt=AdaptPhase(steps=2), multi_view=nothing, final_rate=1.0, samples=EVERY_FOUR)
    assert read_heads(dataset, params, encode_params, Processes(params)).samples is None


def test_the_time_of_a_sheet_is_in_no_rate() -> None:
    """A second that is left out halves no rate."""
    meter = Meter(torch.device("cpu"))
    meter.wait(1.0)
    meter._began -= 2.0
    meter.leave_out(1.0)
    assert meter.record(1, 0.0)["data_wait"] == pytest.approx(1.0, rel=0.05)


def test_a_sheet_on_a_full_disk_is_named(tmp_path: Path) -> None:
    """A file in the place of the folder: the error has the path."""
    (tmp_path / SAMPLES).write_text("")
    with pytest.raises(StorageUnavailable, match=SAMPLES):
        MetricsLog(tmp_path).write_sheet(Image.new("RGB", (8, 8)), 4)
