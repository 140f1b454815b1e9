"""The networks before training: random, or loaded from folders in diffusers' and transformers' layout."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel

from spinmeround.models.diffusion.unet import base_config
from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.initial import build_initial_networks
from spinmeround.tasks.training.key import training_key
from spinmeround.tasks.training.model.networks import text_encoder_config
from spinmeround.tasks.training.params import InitialParams, TrainParams
from spinmeround.tasks.training.run import run_training

MakeTrainParams = Callable[..., TrainParams]


@pytest.fixture
def parts(tmp_path: Path, train_params: MakeTrainParams) -> InitialParams:
    """Folders of a text-to-image UNet and a text encoder with random weights, in the sizes of the tests."""
    params = train_params()
    torch.manual_seed(77)
    UNet2DConditionModel(**base_config(params.unet)).save_pretrained(tmp_path / "unet")
    CLIPTextModel(text_encoder_config(params.text_encoder)).save_pretrained(tmp_path / "encoder")
    return InitialParams(unet=str(tmp_path / "unet"), text_encoder=str(tmp_path / "encoder"))


def test_training_starts_from_the_weights_of_the_folders(parts: InitialParams, train_params: MakeTrainParams) -> None:
    """Every weight of both folders is in the networks; their random weights are a function of the seed."""
    params = train_params(initial=parts)
    networks, again = build_initial_networks(params), build_initial_networks(params)
    for name, tensor in networks.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    encoder = CLIPTextModel.from_pretrained(parts.text_encoder).state_dict()
    loaded = networks.prompt_encoder.text_encoder.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in encoder.items())
    unet, grown = UNet2DConditionModel.from_pretrained(parts.unet).state_dict(), networks.unet.unet.state_dict()
    channels = unet["conv_in.weight"].shape[1]
    for name, tensor in unet.items():
        found = grown[name][:, :channels] if name == "conv_in.weight" else grown[name][: len(tensor)]
        assert torch.equal(found, tensor), name
    other = build_initial_networks(params.model_copy(update={"seed": params.seed + 1}))
    assert not torch.equal(other.unet.unet.conv_in.weight, networks.unet.unet.conv_in.weight)  # the ray weights


def test_training_continues_the_weights_of_the_folders(
    dataset: Path, encode_params: EncodeParams, parts: InitialParams, train_params: MakeTrainParams, tmp_path: Path
) -> None:
    """With a negligible learning rate, the result is still the folder's encoder."""
    params = train_params(initial=parts, learning_rate=1e-12, random_background=0.0)
    result = run_training(dataset, params, encode_params, tmp_path / "checkpoints", tmp_path / "out")
    trained = CLIPTextModel.from_pretrained(result.pipeline / "text_encoder").state_dict()
    for name, tensor in CLIPTextModel.from_pretrained(parts.text_encoder).state_dict().items():
        torch.testing.assert_close(trained[name], tensor, atol=1e-6, rtol=0)


def test_keys_depend_on_the_weights_not_on_their_path(
    parts: InitialParams, train_params: MakeTrainParams, encode_params: EncodeParams, tmp_path: Path
) -> None:
    """Equal bytes at another path give the same key; other bytes, or random weights, give another key."""
    key = training_key({"dataset": "d"}, train_params(initial=parts), encode_params)
    moved = InitialParams(unet=str(shutil.copytree(parts.unet, tmp_path / "moved")), text_encoder=parts.text_encoder)
    assert training_key({"dataset": "d"}, train_params(initial=moved), encode_params) == key
    changed = next((tmp_path / "moved").glob("*.safetensors"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"\1")
    others = [moved, InitialParams(), InitialParams(unet=parts.unet)]
    keys = {key, *(training_key({"dataset": "d"}, train_params(initial=each), encode_params) for each in others)}
    assert len(keys) == 4


def test_incompatible_folders_are_refused(
    parts: InitialParams, train_params: MakeTrainParams, encode_params: EncodeParams
) -> None:
    """A missing folder, or one with other sizes: the error has the field, what is expected and what was found."""
    params = train_params(initial=parts)
    wide = params.unet.model_copy(update={"layers_per_block": 2})
    with pytest.raises(ConfigError, match=r"train.initial.unet: .*expected layers_per_block 2, by train.unet, found 1"):
        build_initial_networks(params.model_copy(update={"unet": wide}))
    deep = params.text_encoder.model_copy(update={"layers": params.text_encoder.layers + 1})
    with pytest.raises(ConfigError, match=r"train.initial.text_encoder: .*expected num_hidden_layers"):
        build_initial_networks(params.model_copy(update={"text_encoder": deep}))
    missing = train_params(initial=InitialParams(unet="nowhere"))
    with pytest.raises(ConfigError, match=r"train.initial.unet: expected a model's folder .* at nowhere"):
        training_key({"dataset": "d"}, missing, encode_params)
