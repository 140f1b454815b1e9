"""Networks from outside are loaded whole or refused by name, and the check agrees with the loader."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel
from typer.testing import CliRunner

from spinmeround.flows.cli.app import app
from spinmeround.flows.profile import load_profile
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.storage.weights import onnx_signature, tensor_headers
from spinmeround.tasks.generation.run import load_pipeline
from spinmeround.tasks.heads.autoencoder import load_autoencoder
from spinmeround.tasks.heads.encode import EncodeParams
from spinmeround.tasks.training.beginning.initial import check_external
from spinmeround.tasks.training.params import InitialParams, TrainParams
from spinmeround.tasks.weights.check import Use, check, parts_of
from spinmeround.tasks.weights.networks import NetworkClass, check_network, load_network
from tests.support.weights import write_autoencoder

CASES = Path(__file__).parents[2] / "cases"
UNET: NetworkClass = "UNet2DConditionModel"
CLIP: NetworkClass = "CLIPTextModel"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 3438167534\n"


def make(kind: NetworkClass) -> torch.nn.Module:
    torch.manual_seed(3)
    if kind == "CLIPTextModel":
        sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
        return CLIPTextModel(CLIPTextConfig(vocab_size=8, max_position_embeddings=8, **sizes))
    return UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def write_bin(folder: Path, network: torch.nn.Module, kind: NetworkClass) -> None:
    """The pickle that published folders of 2022 and 2023 have."""
    network.save_pretrained(folder)
    (folder / f"{'model' if kind == CLIP else 'diffusion_pytorch_model'}.safetensors").unlink()
    stem = "pytorch_model" if kind == CLIP else "diffusion_pytorch_model"
    torch.save(network.state_dict(), folder / f"{stem}.bin")


def write_training_bin(folder: Path, network: torch.nn.Module, kind: NetworkClass) -> None:
    """As training scripts save it: the tensors below `state_dict`, beside other things."""
    write_bin(folder, network, kind)
    (file,) = folder.glob("*.bin")
    torch.save({"state_dict": network.state_dict(), "step": 3}, file)


def write_marked(folder: Path, network: torch.nn.Module, kind: NetworkClass) -> None:
    """Shards with an index that lacks `metadata`, and byte order marks, as editors of Windows write them."""
    network.save_pretrained(folder, max_shard_size="4KB")
    (index,) = folder.glob("*.index.json")
    index.write_text(json.dumps({"weight_map": json.loads(index.read_text())["weight_map"]}), encoding="utf-8-sig")
    config = folder / "config.json"
    config.write_text(config.read_text(), encoding="utf-8-sig")


LAYOUTS: dict[str, Callable[[Path, torch.nn.Module, NetworkClass], object]] = {
    "one file": lambda folder, network, kind: network.save_pretrained(folder),
    "shards": lambda folder, network, kind: network.save_pretrained(folder, max_shard_size="4KB"),
    "fp16 variant": lambda folder, network, kind: network.half().save_pretrained(folder, variant="fp16"),
    "shards of a variant": lambda folder, network, kind: network.half().save_pretrained(
        folder, variant="fp16", max_shard_size="4KB"
    ),
    "bin": write_bin,
    "bin of a training": write_training_bin,
    "shards with marks": write_marked,
}


@pytest.mark.parametrize("kind", [UNET, CLIP])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_of_the_libraries_load(tmp_path: Path, layout: str, kind: NetworkClass) -> None:
    """Every weight is the file's, in float32, and the check accepts the same folder."""
    network = make(kind)
    LAYOUTS[layout](tmp_path, network, kind)
    assert (len(list(tmp_path.glob("*-of-*"))) > 1) == ("shards" in layout)
    part = "arc2face-encoder" if kind == CLIP else "arc2face-unet"
    found = check(Use(name=part, fields=(), place=tmp_path))
    assert found.state == "found", found.seen
    loaded = load_network(tmp_path, kind).state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded[name], tensor.float()), name


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    (file,) = folder.glob("*.safetensors")
    save_file(change(load_file(file)), file)


def changed(name: str, tensor: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: {**tensors, name: tensor(tensors[name])})


def renamed(rename: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda folder: rewrite(folder, lambda tensors: {rename(name): each for name, each in tensors.items()})


def reconfigured(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


def value_at(value: float) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.flatten().index_fill(0, torch.tensor([1]), value).view_as(tensor)


def remove(pattern: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.glob(pattern)).unlink()


def beside_shards(folder: Path) -> None:
    """One file of other values beside the shards, as is left of an earlier download."""
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    shards = {f"{file.stem}-0000{part}-of-00002.safetensors": sorted(tensors)[part - 1 :: 2] for part in (1, 2)}
    for name, names in shards.items():
        save_file({each: tensors[each] for each in names}, folder / name)
    index = {each: name for name, names in shards.items() for each in names}
    (folder / f"{file.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)


def one_in_two_shards(folder: Path) -> None:
    beside_shards(folder)
    (file,) = (path for path in folder.glob("*.safetensors") if "-of-" not in path.name)
    file.unlink()
    first, second = sorted(folder.glob("*-of-*"))
    save_file(dict([*load_file(second).items(), *list(load_file(first).items())[:1]]), second)


def pickled(value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        file.unlink()
        torch.save(value, folder / "diffusion_pytorch_model.bin")

    return change


def pickled_with(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    """A pickle in place of .safetensors, in which one tensor, or without a name all, are changed."""

    def damage(folder: Path) -> None:
        (file,) = folder.glob("*.safetensors")
        tensors = {each: change(x) if name in ("", each) else x for each, x in load_file(file).items()}
        file.unlink()
        torch.save(tensors, folder / f"{'pytorch_model' if file.stem == 'model' else file.stem}.bin")

    return damage


def pointer(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.write_text(POINTER)


def variant_without_plain(folder: Path) -> None:
    (file,) = folder.glob("*.safetensors")
    file.rename(folder / "diffusion_pytorch_model.non_ema.safetensors")


REFUSED = {
    "NaN": (UNET, changed("conv_in.weight", value_at(float("nan"))), r"tensor conv_in\.weight: .*found 1 of 288 that"),
    "infinity": (CLIP, changed("final_layer_norm.bias", value_at(float("inf"))), "final_layer_norm.bias: .*infinity"),
    "all zero": (UNET, lambda folder: rewrite(folder, lambda t: {n: 0 * x for n, x in t.items()}), "all zero"),
    "DataParallel": (CLIP, renamed(lambda name: f"module.{name}"), "prefix 'module.'.*save the network inside"),
    "torch.compile": (UNET, renamed(lambda name: f"_orig_mod.{name}"), "prefix '_orig_mod.'"),
    "in a pipeline": (UNET, renamed(lambda name: f"pipe.unet.{name}"), r"prefix 'pipe\.unet\.'"),
    "incomplete": (UNET, lambda f: rewrite(f, lambda t: {n: x for n, x in t.items() if "mid" not in n}), "missing"),
    "one missing": (CLIP, lambda f: rewrite(f, lambda t: dict(sorted(t.items())[1:])), "weight: expected 8x16 .*none"),
    "one too many": (UNET, lambda f: rewrite(f, lambda t: {**t, "extra": torch.ones(1)}), "extra: expected none"),
    "other sizes": (UNET, reconfigured(cross_attention_dim=16), "8x16 by its config.json, found 8x8"),
    "other variant": (UNET, variant_without_plain, "only diffusion_pytorch_model.non_ema.safetensors; .*rename it"),
    "no weights": (CLIP, remove("*.safetensors"), "found no file of weights"),
    "no config": (CLIP, remove("config.json"), "config.json, found none"),
    "layers without end": (CLIP, reconfigured(num_hidden_layers=2**31), "num_hidden_layers: expected at most 1000"),
    "levels that differ": (UNET, reconfigured(block_out_channels=[8]), "does not fit"),
    "one file and shards": (UNET, beside_shards, r"found both diffusion_.*\.safetensors and .*index\.json"),
    "one file and shards of CLIP": (CLIP, beside_shards, r"found both model\.safetensors and .*index\.json"),
    "a tensor in two shards": (UNET, one_in_two_shards, r"tensor conv_in\.bias: expected in one shard"),
    "two names": (CLIP, lambda f: rewrite(f, lambda t: {**t, **{f"text_model.{n}": -x for n, x in t.items()}}), "once"),
    "quantised": (UNET, reconfigured(quantization_config={"load_in_8bit": True}), "quantization_config: expected none"),
    "int8": (UNET, changed("conv_in.weight", lambda x: (9 * x).to(torch.int8)), "conv_in.weight: .*float16.*int8"),
    "bool": (CLIP, changed("final_layer_norm.bias", lambda x: x > 0), "final_layer_norm.bias: .*found bool"),
    "fp8": (UNET, changed("conv_in.bias", lambda x: x.to(torch.float8_e4m3fn)), "conv_in.bias: .*found F8_E4M3"),
    "complex": (UNET, changed("conv_in.bias", lambda x: x.to(torch.complex64)), "conv_in.bias: .*found complex64"),
    "a pickled list": (UNET, pickled([1, 2]), r"model\.bin: expected tensors by name, found a list"),
    "a list as state_dict": (UNET, pickled({"state_dict": [1]}), "expected tensors by name, found a list"),
    "names that are numbers": (UNET, pickled({1: torch.zeros(1)}), "expected tensors by name, found the key 1"),
    "tensors under another key": (UNET, pickled({"model": {"a": torch.ones(1)}}), "found none under 'model'"),
    "sparse": (UNET, pickled_with("conv_in.bias", lambda x: x.to_sparse()), r"conv_in\.bias: .*a sparse one"),
    "a tensor without values": (UNET, pickled_with("conv_in.bias", lambda x: x.to("meta")), r"conv_in\.bias: .*'meta'"),
    "no values at all": (
        CLIP,
        pickled_with("", lambda x: x.to("meta")),
        "expected values, found a tensor on the device",
    ),
    "pointer of git-lfs": (CLIP, pointer, r"model\.safetensors: .*git-lfs's pointer.*run 'git lfs pull' in"),
    "text for a number": (CLIP, reconfigured(hidden_size="16"), "does not fit"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_defective_folder_is_refused_by_check_and_loader(tmp_path: Path, fault: str) -> None:
    """Both give the same message, on one line, that begins with the field."""
    kind, damage, message = REFUSED[fault]
    make(kind).save_pretrained(tmp_path)
    damage(tmp_path)
    with pytest.raises(ConfigError, match=rf"^a\.field: .*{message}") as checked:
        check_network(tmp_path, kind, field="a.field")
    with pytest.raises(ConfigError, match=message) as loaded:
        load_network(tmp_path, kind, field="a.field")
    assert "\n" not in str(checked.value) + str(loaded.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0, -1.0, 1e30, "0.18215", None, True, [1.0]], ids=repr)
def test_a_scaling_factor_is_a_number_of_sane_size(tmp_path: Path, value: object) -> None:
    """Check and loader refuse another one, and name file and field."""
    folder = write_autoencoder(tmp_path / "vae")
    check_network(folder, "AutoencoderKL")
    reconfigured(scaling_factor=value)(folder)
    for read in (check_network, load_network):
        with pytest.raises(ConfigError, match=r"^f: .*config\.json: scaling_factor: expected a number .*, found"):
            read(folder, "AutoencoderKL", field="f")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shift_factor", 0.1159),
        ("shift_factor", float("nan")),
        ("shift_factor", "0"),
        ("latents_mean", [0, 0, 0, 0.5]),
        ("latents_std", [1.0, 2.0, 1.0, 1.0]),
        ("latents_std", [[1.0], 1.0]),
    ],
)
def test_an_autoencoder_that_shifts_its_latents_is_refused(tmp_path: Path, name: str, value: object) -> None:
    """Check and loader name file and field."""
    folder = write_autoencoder(tmp_path / "vae")
    reconfigured(**{name: value})(folder)
    for read in (check_network, load_network):
        with pytest.raises(ConfigError, match=rf"^f: .*config\.json: {name}: expected none or [01], .*found"):
            read(folder, "AutoencoderKL", field="f")


def test_a_shift_without_effect_is_accepted(tmp_path: Path) -> None:
    """diffusers writes null for the fields that an autoencoder does not use."""
    folder = write_autoencoder(tmp_path / "vae")
    reconfigured(shift_factor=None, latents_mean=None, latents_std=None)(folder)
    check_network(folder, "AutoencoderKL")
    reconfigured(shift_factor=0, latents_mean=[0.0] * 4, latents_std=[1, 1, 1, 1])(folder)
    check_network(folder, "AutoencoderKL")


@pytest.mark.parametrize("kind", [UNET, CLIP])
def test_loading_draws_no_random_numbers_and_keeps_no_file(tmp_path: Path, kind: NetworkClass) -> None:
    """The state of torch's generator stays, buffers have values, and a later change of the file has no effect."""
    network = make(kind)
    network.save_pretrained(tmp_path)
    before = torch.get_rng_state()
    loaded = load_network(tmp_path, kind)
    assert torch.equal(torch.get_rng_state(), before)
    (file,) = tmp_path.glob("*.safetensors")
    with file.open("r+b") as out:
        out.seek(-64, 2)
        out.write(bytes(64))
    for name, buffer in network.named_buffers():
        assert torch.equal(dict(loaded.named_buffers())[name], buffer), name
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not loaded.training


@pytest.mark.parametrize("name", ["a.safetensors", "a.bin", "a.onnx"])
def test_a_pointer_of_git_lfs_is_named(tmp_path: Path, name: str) -> None:
    """Every reader of weights says what it is and what to do."""
    (tmp_path / name).write_text(POINTER)
    read = onnx_signature if name.endswith("onnx") else tensor_headers
    with pytest.raises(SpinMeRoundError, match=f"{name}: .*git-lfs's pointer to it; run 'git lfs pull' in {tmp_path}"):
        read(tmp_path / name)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    """The index names the file; an index that leads out of the folder is refused."""
    make(UNET).save_pretrained(tmp_path, max_shard_size="4KB")
    shard = min(tmp_path.glob("*-of-*"))
    shard.unlink()
    with pytest.raises(ConfigError, match=f"lacks {shard.name}, of the .* files that .*index"):
        load_network(tmp_path, UNET)
    (index,) = tmp_path.glob("*.index.json")
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": "../x.safetensors"}}))
    with pytest.raises(ConfigError, match="expected plain names"):
        load_network(tmp_path, UNET)
    index.write_text(json.dumps({"weight_map": {"conv_in.weight": "x" * 300}}))
    with pytest.raises(ConfigError, match=r"lacks x{80}\.\.\., of the 1 files"):
        load_network(tmp_path, UNET)


@pytest.mark.parametrize(
    ("case", "kind", "message"),
    [
        ("nan_vae", "AutoencoderKL", r"tensor encoder\.conv_in\.weight: expected finite numbers"),
        ("encoder_prefixed", CLIP, "prefix 'module.'"),
        ("unet_lora", UNET, "a LoRA.*fuse it"),
        ("unet_ldm", UNET, r"conv_in\.weight: expected 4x4x3x3.*single-file layout \(LDM\)"),
        ("unet_ema", UNET, r"averaged \(EMA\) weights alone"),
        ("config_bad/unet", UNET, "does not fit"),
        ("config_bad/encoder", CLIP, "does not fit"),
    ],
)
def test_cases_are_explained(case: str, kind: NetworkClass, message: str) -> None:
    """What the file is, and what to do."""
    with pytest.raises(ConfigError, match=message):
        load_network(CASES / case, kind)


def test_one_nan_is_named_by_check_encode_and_train(tmp_path: Path) -> None:
    """The command, the loader of the stage encode, and the check before a training name the tensor."""
    place = shutil.copytree(CASES / "nan_vae", tmp_path / "vae")
    named = r"encode\.autoencoder.*encoder\.conv_in\.weight"
    values = (f"encode.autoencoder={place}", "train.unet.latent_channels=4", "train.unet.sample_size=16")
    sets = [word for value in values for word in ("--set", value)]
    result = CliRunner().invoke(app, ["weights", "check", "demo", *sets])
    assert result.exit_code == 1
    assert "encoder.conv_in.weight: expected finite numbers, found 1 of" in result.output
    with pytest.raises(ConfigError, match=named):
        load_autoencoder(place)
    with pytest.raises(ConfigError, match=named):
        check_external(TrainParams(), EncodeParams(autoencoder=str(place)))


def test_initial_weights_are_checked_before_a_training(tmp_path: Path) -> None:
    """Names, values and sizes, each with the field."""
    make(UNET).save_pretrained(tmp_path / "unet")
    encode = EncodeParams(autoencoder=str(write_autoencoder(tmp_path / "vae")))
    params = TrainParams(initial=InitialParams(unet=str(tmp_path / "unet")))
    with pytest.raises(ConfigError, match=r"train\.initial\.unet: .*expected block_out_channels"):
        check_external(params, encode)
    params = TrainParams(initial=InitialParams(text_encoder=str(CASES / "encoder_prefixed")))
    with pytest.raises(ConfigError, match=r"train\.initial\.text_encoder: .*prefix 'module\.'"):
        check_external(params, encode)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_trained_pipeline_is_loaded_whole_or_refused(pipeline: Path, tmp_path: Path, part: str) -> None:
    """A pipeline with a prefixed network is refused; the intact one loads."""
    copy = Path(shutil.copytree(pipeline, tmp_path / "pipeline"))
    assert load_pipeline(copy).text_encoder is not None
    renamed(lambda name: f"module.{name}")(copy / part)
    with pytest.raises(ConfigError, match=rf"pipeline: .*{part}: .*prefix 'module\.'"):
        load_pipeline(copy)


def test_networks_that_only_a_training_reads_are_left_to_it(pipeline: Path, tmp_path: Path) -> None:
    """A pipeline and a multiview UNet in `train.initial.unet` are no published part; a missing folder is."""
    for folder, expected in ((pipeline, False), (pipeline / "unet", False), (tmp_path / "nowhere", True)):
        profile = load_profile("demo", [f"train.initial.unet={folder}"])
        assert ("train.initial.unet" in [field for use in parts_of(profile) for field in use.fields]) is expected
