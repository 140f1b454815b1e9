"""Networks in the original single-file layout (LDM) are converted by their config.json, or refused."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from spinmeround.storage.errors import ConfigError
from spinmeround.tasks.weights.networks import NetworkClass, check_network, load_network
from tests.support.ldm import unet_as_ldm, vae_as_ldm
from tests.support.weights import write_autoencoder
from tests.tasks.weights.test_networks import UNET, make

SOME = ("input_blocks.1.0.in_layers.2.weight", "down.1.block.0.conv1.weight")
KINDS: tuple[NetworkClass, ...] = (UNET, "AutoencoderKL")


def network_of(kind: NetworkClass, folder: Path) -> torch.nn.Module:
    """A small network, with its config.json in the folder."""
    if kind == UNET:
        network = make(UNET)
        network.save_config(folder)
        return network
    write_autoencoder(folder)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.manual_seed(4)
    return AutoencoderKL.from_config(AutoencoderKL.load_config(folder))


def single_file(unet: UNet2DConditionModel | None, vae: AutoencoderKL | None) -> dict[str, Tensor]:
    """A file with these networks and a text encoder."""
    found = {"cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.ones(4)}
    if unet is not None:
        found |= unet_as_ldm(unet.state_dict(), layers=1, with_attention={1})
    return found | ({} if vae is None else vae_as_ldm(vae.state_dict(), levels=3))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> NetworkClass:
    return request.param


def write(folder: Path, kind: NetworkClass, tensors: dict[str, Tensor], layout: str) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if layout == "checkpoint":
        torch.save({"state_dict": tensors, "global_step": 3}, folder / "v1-5-pruned.ckpt")
    elif layout == "one network":
        prefix = "model.diffusion_model." if kind == UNET else "first_stage_model."
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        save_file(own, folder / "vae-ft-mse-840000-ema-pruned.safetensors")
    else:
        name = "diffusion_pytorch_model" if layout == "named as diffusers" else "v1-5-pruned-emaonly"
        save_file(tensors, folder / f"{name}.safetensors")


@pytest.mark.parametrize("layout", ["published", "named as diffusers", "one network", "checkpoint"])
def test_single_files_load(tmp_path: Path, kind: NetworkClass, layout: str) -> None:
    """Every tensor has the value that it had before its name was changed; nothing is downloaded."""
    network = network_of(kind, tmp_path)
    both = {"unet": network if kind == UNET else None, "vae": None if kind == UNET else network}
    write(tmp_path, kind, single_file(**both), layout)
    assert check_network(tmp_path, kind).single_file
    loaded, expected = load_network(tmp_path, kind, dtype=torch.float64).state_dict(), network.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], tensor.double()) for name, tensor in expected.items())


@pytest.mark.parametrize("fault", ["missing", "one too many", "NaN", "other sizes"])
def test_other_single_files_are_refused(tmp_path: Path, kind: NetworkClass, fault: str) -> None:
    """By the check and by the loader, in a line that names the folder."""
    network = network_of(kind, tmp_path)
    tensors = single_file(network if kind == UNET else None, None if kind == UNET else network)
    name = next(each for each in tensors if each.endswith(SOME))

    if fault == "missing":
        del tensors[name]
    elif fault == "one too many":
        tensors[name.replace("weight", "scale")] = torch.ones(1)
    elif fault == "NaN":
        tensors[name] = torch.full_like(tensors[name], torch.nan)
    else:
        tensors[name] = torch.ones(3)
    write(tmp_path, kind, tensors, "published")
    with pytest.raises(ConfigError, match=str(tmp_path)) as checked:
        check_network(tmp_path, kind)
    with pytest.raises(ConfigError):
        load_network(tmp_path, kind)
    assert "\n" not in str(checked.value)


def test_two_files_are_ambiguous(tmp_path: Path) -> None:
    """Of two single files none is chosen."""
    network = network_of(UNET, tmp_path)
    for layout in ("published", "one network"):
        write(tmp_path, UNET, single_file(network, None), layout)
    with pytest.raises(ConfigError, match=r"found only v1-5-pruned-emaonly\.safetensors, vae-ft"):
        check_network(tmp_path, UNET)
