"""Trainings that chain: what each begins with, what its key holds, and continuation by more steps."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file

from spinmeround.models.diffusion.unet import MultiviewUNet
from spinmeround.storage.artifacts import ArtifactStore
from spinmeround.storage.checkpoints import find_checkpoint
from spinmeround.storage.dataset import HeadDataset
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.beginning.source import find_source
from spinmeround.tasks.training.chain import artifact
from spinmeround.tasks.training.chain.artifact import make_training
from spinmeround.tasks.training.chain.export import export_pipeline
from spinmeround.tasks.training.chain.plan import plan_trainings
from spinmeround.tasks.training.key import EXECUTION, training_key
from spinmeround.tasks.training.params import InitialParams, SamplesParams, TrainParams, ValidationParams
from spinmeround.tasks.training.params.averages import AverageParams
from spinmeround.tasks.training.params.launch import LaunchParams
from spinmeround.tasks.training.params.phases import AdaptPhase, PhaseName, SingleViewPhase

diffusers_logging.disable_progress_bar()
MakeTrainParams = Callable[..., TrainParams]
Make = Callable[..., tuple[str, Path]]


def _weights(folder: Path) -> dict[str, bytes]:
    files = sorted(folder.rglob("*.safetensors"))
    return {
        f"{file.parent.name}.{name}": tensor.numpy().tobytes()
        for file in files
        for name, tensor in load_file(file).items()
    }


@pytest.fixture(scope="module")
def profile(train_params: MakeTrainParams) -> TrainParams:
    """Two steps of each phase, with a constant learning rate."""
    multi_view = train_params().multi_view.model_copy(update={"steps": 2, "decay_steps": 0})
    single_view = train_params().single_view.model_copy(update={"steps": 2})
    return train_params(
        adapt=AdaptPhase(steps=2), single_view=single_view, multi_view=multi_view, final_rate=1.0, guard=_NO_GUARD
    )


_NO_GUARD = TrainParams().guard.model_copy(update={"spike": 0.0})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("chain") / "store")


@pytest.fixture(scope="module")
def chain(
    store: ArtifactStore, dataset: Path, encode_params: EncodeParams, profile: TrainParams
) -> dict[PhaseName, Path]:
    """The artifacts of all three phases."""
    made = {}
    for each in plan_trainings(HeadDataset.open(dataset), profile, encode_params):
        folder = Path(store.root).parent / "training"
        outcome, key, _ = make_training(store, dataset, each.params, encode_params, folder, begins=each.begins)
        assert (outcome, key) == ("made", each.key)
        made[each.name] = store.verify(each.name, key).path
    return made


def test_each_training_begins_with_the_result_of_the_one_before(
    chain: dict[PhaseName, Path], store: ArtifactStore, profile: TrainParams
) -> None:
    """The UNet that is grown has the weights of the adapted one; the manifests hold the keys of the chain."""
    adapted = UNet2DConditionModel.from_pretrained(chain["adapt"] / "networks" / "unet")
    grown = build_initial_networks(profile.only("single-view"), chain["adapt"]).multiview
    assert all(torch.equal(weight, adapted.state_dict()[name]) for name, weight in grown.to_unet().state_dict().items())
    begun = build_initial_networks(profile.only("multi-view"), chain["single-view"]).multiview
    before = MultiviewUNet.from_pretrained(chain["single-view"] / "pipeline" / "unet").state_dict()
    assert all(torch.equal(weight, before[name]) for name, weight in begun.state_dict().items())
    single, multi = (store.manifest(name, chain[name].name) for name in ("single-view", "multi-view"))
    assert single.inputs["adapt"] == chain["adapt"].name
    assert multi.inputs["single-view"] == chain["single-view"].name
    assert "adapt" not in multi.inputs


def test_a_phase_changes_the_keys_of_itself_and_of_those_after_it(
    dataset: Path, encode_params: EncodeParams, profile: TrainParams
) -> None:
    """What a phase does not read changes no key of it."""
    data = HeadDataset.open(dataset)

    def keys(changed: TrainParams) -> list[str]:
        return [each.key for each in plan_trainings(data, changed, encode_params)]

    def same(**changes: Any) -> list[bool]:
        return [a == b for a, b in zip(keys(profile), keys(profile.model_copy(update=changes)), strict=True)]

    assert same(multi_view=profile.multi_view.model_copy(update={"steps": 3})) == [True, True, False]
    assert same(single_view=profile.single_view.model_copy(update={"steps": 3})) == [True, False, False]
    assert same(unet=profile.unet.model_copy(update={"views": 5})) == [True, False, False]
    assert same(initial=InitialParams(zero_pose=True)) == [True, False, False]
    assert same(seed=7) == [False, False, False]


def test_what_logs_paces_or_places_is_in_no_key(train_params: MakeTrainParams, encode_params: EncodeParams) -> None:
    """Any other value of such a field gives the same key."""
    assert set(TrainParams.model_fields) >= EXECUTION
    key = training_key({"dataset": "d"}, train_params(), encode_params)
    others: dict[str, Any] = {
        "launch": LaunchParams(launcher="torchrun", processes=2),
        "sharding": "fsdp2",
        "samples": SamplesParams(every=7),
        "validation": ValidationParams(every=7),
        "wandb": "faces",
    }
    for name in EXECUTION:
        value = getattr(train_params(), name)
        other = others.get(name, not value if isinstance(value, bool) else 7)
        assert training_key({"dataset": "d"}, train_params(**{name: other}), encode_params) == key, name


def _longer(profile: TrainParams, steps: int, **changes: Any) -> TrainParams:
    phase = profile.multi_view.model_copy(update={"steps": steps})
    return profile.only("multi-view").model_copy(update={"multi_view": phase, **changes})


def test_more_steps_continue_a_finished_training(
    dataset: Path, encode_params: EncodeParams, profile: TrainParams, tmp_path: Path
) -> None:
    """Three steps after two begin with the third, and end with the weights, losses and metrics of three at once; the
    snapshots of the averages go along."""

    average = AverageParams(tracked=(0.05, 0.1), snapshots=1)

    def make(name: str, steps: int, **changes: Any) -> tuple[Path, list[int]]:
        taken: list[int] = []
        store, params = ArtifactStore(tmp_path / name), _longer(profile, steps, average=average, **changes)
        _, key, _ = make_training(
            store, dataset, params, encode_params, tmp_path / "training", lambda step, total, loss: taken.append(step)
        )
        return store.verify("multi-view", key).path, taken

    at_once, taken = make("at once", 3)
    assert taken == [1, 2, 3]
    make("continued", 2)
    continued, taken = make("continued", 3)
    assert taken == [3]
    assert _weights(continued) == _weights(at_once)
    assert (continued / "training.json").read_bytes() == (at_once / "training.json").read_bytes()
    assert len((continued / "metrics.jsonl").read_text().splitlines()) == 2
    assert [path.name for path in sorted((continued / "averages").iterdir())] == [
        f"step-{step:09d}.safetensors" for step in (2, 3)
    ]
    assert make("continued", 3, seed=1)[1] == [1, 2, 3]
    assert make("forgotten", 2, keep_state=False)[1] == [1, 2]
    assert make("forgotten", 3)[1] == [1, 2, 3]


def test_a_continuation_that_is_killed_while_it_copies_the_checkpoint_begins_again(
    dataset: Path,
    encode_params: EncodeParams,
    profile: TrainParams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed when the manifest is copied and the tensors are not: the next call continues, and takes no half of a
    checkpoint for a damaged one."""
    taken: list[int] = []
    store = ArtifactStore(tmp_path / "store")

    def make(steps: int) -> None:
        params = _longer(profile, steps)
        make_training(
            store, dataset, params, encode_params, tmp_path / "training", lambda step, total, loss: taken.append(step)
        )

    def copy_the_manifest(source: str, target: str) -> None:
        shutil.copyfile(Path(source).with_name("manifest.json"), Path(target).with_name("manifest.json"))
        raise KeyboardInterrupt

    make(1)
    with monkeypatch.context() as patched:
        patched.setattr(artifact, "_link_or_copy", copy_the_manifest)
        with pytest.raises(KeyboardInterrupt):
            make(2)
    make(2)
    assert taken == [1, 2]


def _began_with(source: Path, phase: PhaseName, profile: TrainParams) -> dict[str, torch.Tensor]:
    params = profile.only(phase).model_copy(update={"initial": InitialParams(unet=str(source))})
    return build_initial_networks(params).state_dict()


def test_any_phase_begins_with_any_source(chain: dict[PhaseName, Path], profile: TrainParams, tmp_path: Path) -> None:
    """A pipeline, a MultiviewUNet, a plain UNet, an artifact and a checkpoint, for each phase: the image channels are
    the source's; a text encoder that comes along is taken."""
    pipeline = chain["multi-view"] / "pipeline"
    checkpoint = find_checkpoint(chain["multi-view"] / "state")
    assert checkpoint is not None
    expected = MultiviewUNet.from_pretrained(pipeline / "unet").to_unet().state_dict()
    plain = tmp_path / "plain"
    MultiviewUNet.from_pretrained(pipeline / "unet").to_unet().save_pretrained(plain)
    encoder = load_file(pipeline / "text_encoder" / "model.safetensors")
    for source in (pipeline, pipeline / "unet", plain, chain["multi-view"], checkpoint.path, checkpoint.path.parent):
        for phase in ("adapt", "single-view", "multi-view"):
            found = _began_with(source, phase, profile)
            prefix = "unet." if phase == "adapt" else "unet.unet."
            for name, weight in expected.items():
                part = found[prefix + name]
                part = part[:, : weight.shape[1]] if name == "conv_in.weight" else part[: len(weight)]
                assert torch.equal(part, weight), (source.name, phase, name)
            states = [name for name in found if name.endswith("token_embedding.weight")]
            assert torch.equal(
                found[states[0]], next(v for k, v in encoder.items() if k.endswith("token_embedding.weight"))
            )


def test_a_checkpoint_is_exported_as_the_pipeline_of_its_training(
    chain: dict[PhaseName, Path], store: ArtifactStore, encode_params: EncodeParams, profile: TrainParams
) -> None:
    """Without steps, the pipeline has the averaged weights of the checkpoint: every weight of the training's result,
    whatever averages the profile has."""
    initial = InitialParams(unet=str(chain["multi-view"] / "state"))
    average = AverageParams(length=0.2, tracked=(0.2,))
    params = profile.only().model_copy(update={"initial": initial, "average": average})
    outcome, key, result = export_pipeline(store, params, encode_params)
    assert (outcome, result.steps, result.loss_last) == ("made", 0, None)
    assert plan_trainings(None, params, encode_params)[0].key == key
    assert result.pipeline is not None
    assert _weights(result.pipeline) == _weights(chain["multi-view"] / "pipeline")


def test_sources_that_do_not_fit_are_named(
    chain: dict[PhaseName, Path], encode_params: EncodeParams, profile: TrainParams, tmp_path: Path
) -> None:
    """Other sizes, rays, frames or frozen text encoders, and folders without networks: the error names the field."""
    pipeline, state = chain["multi-view"] / "pipeline", chain["multi-view"] / "state"

    def begin(source: Path, **changes: Any) -> None:
        params = profile.only("multi-view").model_copy(update=changes)
        initial = InitialParams(unet=str(source))
        build_initial_networks(params.model_copy(update={"initial": initial}))

    for source in (pipeline, state):
        with pytest.raises(ConfigError, match=r"train\.initial\.unet: .*expected layers_per_block 2.*found 1"):
            begin(source, unet=profile.unet.model_copy(update={"layers_per_block": 2}))
        with pytest.raises(ConfigError, match=r"expected ray_encoding 3dim, by train\.unet, found plucker"):
            begin(source, unet=profile.unet.model_copy(update={"ray_encoding": "3dim"}))
        initial = InitialParams(unet=str(source))
        params = profile.only("multi-view").model_copy(update={"initial": initial})
        world = encode_params.model_copy(update={"normals_frame": "world"})
        with pytest.raises(ConfigError, match=r"expected normals in the frame 'world'.*found 'camera'"):
            training_key({"dataset": "d"}, params, world)
    with pytest.raises(ConfigError, match="expected the frozen text encoder of its training, found another"):
        begin(state, seed=3)
    with pytest.raises(ConfigError, match=r"train\.initial\.unet: expected a model's folder .*, found none"):
        find_source(tmp_path)


def test_a_profile_without_steps_or_networks_is_refused(encode_params: EncodeParams, profile: TrainParams) -> None:
    """The error names the fields of the steps and of the networks to export."""
    with pytest.raises(
        ConfigError, match=r"expected steps in adapt.*train\.initial\.unet names the networks to export"
    ):
        plan_trainings(None, profile.only(), encode_params)


def test_a_phase_of_several_views_is_no_adaptation() -> None:
    """`adapt` trains on single views; a learning rate that falls needs the steps over which it does."""
    with pytest.raises(ValueError, match=r"expected single views .*got 1 conditioning and 7 target views"):
        AdaptPhase(groups=SingleViewPhase().groups)
    with pytest.raises(ValueError, match=r"final_rate: expected decay_steps in a phase"):
        TrainParams(final_rate=0.1)
