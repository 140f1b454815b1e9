"""Stubs in the published formats, and the check that rejects any other file."""

import hashlib
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from spinmeround.flows.profile import load_profile
from spinmeround.models.identity.arcface import ArcFaceEmbedder
from spinmeround.models.identity.detection import FaceDetector, Landmarks3D
from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.models.metrics.missing import Missing
from spinmeround.models.metrics.perceptual import Lpips
from spinmeround.storage.errors import ConfigError, SpinMeRoundError
from spinmeround.storage.weights import PARTS, find_part, tensor_shapes
from spinmeround.tasks.heads.autoencoder import load_autoencoder
from spinmeround.tasks.weights.check import Use, check, parts_of
from spinmeround.tasks.weights.insightface_packs import open_pack
from spinmeround.tasks.weights.inspect import inspect
from spinmeround.tasks.weights.lpips_backbone import load_lpips
from spinmeround.tasks.weights.stub import write_stubs
from spinmeround.tasks.weights.stub_diffusion import prompt_tokens, write_autoencoder, write_tokenizer

SD = "stable-diffusion-v1-5"


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small stubs of all parts except PanoHead."""
    folder = tmp_path_factory.mktemp("stubs") / "weights"
    assert [path.is_relative_to(folder) for path in write_stubs(folder, small=True, panohead_checkout=None, seed=0)]
    return folder


def digest(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".toml", ".sha256"))
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_stubs_are_a_function_of_the_seed_and_never_overwrite(stubs: Path, tmp_path: Path) -> None:
    """Another folder gets the same bytes; a second call writes only what is missing."""
    before = digest(stubs)
    list(write_stubs(tmp_path, small=True, panohead_checkout=None, seed=0))
    assert digest(tmp_path) == before
    (tmp_path / "arc2face/arcface.onnx").write_bytes(b"mine")
    (tmp_path / "alexnet-owt-7be5be79.pth").unlink()
    written = list(write_stubs(tmp_path, small=True, panohead_checkout=None, seed=0))
    assert [path.name for path in written] == ["alexnet-owt-7be5be79.pth"]
    assert (tmp_path / "arc2face/arcface.onnx").read_bytes() == b"mine"
    with pytest.raises(ConfigError, match="written with other options"):
        list(write_stubs(tmp_path, small=False, panohead_checkout=None, seed=0))


def test_every_stub_passes_the_check(stubs: Path) -> None:
    """Each stub passes the inspection of the real files."""
    for part in PARTS:
        if not part.name.startswith(("panohead", "spherehead")):
            assert inspect(part.name, part.place(stubs))


def test_the_production_profile_has_the_places_that_the_list_prints() -> None:
    """A part that is put where `weights list` and `weights fetch` say is where the profile looks for it."""
    uses = parts_of(load_profile("panohead"))
    assert {use.name: use.place for use in uses} == {use.name: find_part(use.name).place() for use in uses}
    assert len(uses) >= 8


def test_the_libraries_read_the_published_formats(stubs: Path) -> None:
    """diffusers and transformers load every folder as they load the published ones, old names included."""
    assert "text_model.final_layer_norm.weight" in tensor_shapes(stubs / "arc2face/encoder/pytorch_model.bin")
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in tensor_shapes(
        stubs / SD / "vae/diffusion_pytorch_model.safetensors"
    )
    UNet2DConditionModel.from_pretrained(stubs / "arc2face", subfolder="arc2face", local_files_only=True)
    encoder, problems = CLIPTextModel.from_pretrained(
        stubs / "arc2face/encoder", local_files_only=True, output_loading_info=True
    )
    assert not any(problems.values())
    assert encoder.config.hidden_size == 768
    query = load_file(stubs / SD / "vae/diffusion_pytorch_model.safetensors")[
        "encoder.mid_block.attentions.0.query.weight"
    ]
    attention = load_autoencoder(stubs / SD / "vae").encoder.mid_block.attentions[0]
    assert torch.equal(attention.to_q.weight, query)
    pipeline = StableDiffusionPipeline.from_pretrained(stubs / SD, local_files_only=True)
    assert pipeline.vae.config.scaling_factor == pytest.approx(0.18215)
    assert isinstance(load_lpips(stubs / "alexnet-owt-7be5be79.pth"), Lpips)


def test_the_prompt_has_clip_ids_at_full_size(stubs: Path, tmp_path: Path) -> None:
    """In the small vocabulary it has the ids that the stub's profile names."""
    write_tokenizer(tmp_path / "full", small=False)
    full = CLIPTokenizer.from_pretrained(tmp_path / "full", local_files_only=True)
    assert len(full) == 49408
    assert PromptTokens.from_tokenizer(full) == PromptTokens()
    small = CLIPTokenizer.from_pretrained(stubs / SD / "tokenizer", local_files_only=True)
    assert PromptTokens.from_tokenizer(small) == prompt_tokens(small=True)


def test_the_profile_of_the_stubs_refers_to_them(stubs: Path) -> None:
    """It loads and finds every part except PanoHead; the first check records, the second compares."""
    uses = parts_of(load_profile(str(stubs / "panohead-stub.toml")))
    findings = [check(use) for use in uses]
    states = {finding.use.name: finding.state for finding in findings}
    assert states.pop("panohead-checkout") == states.pop("panohead") == "missing"
    assert set(states.values()) == {"found"}
    again = [check(use).seen for use in uses if use.name == "sd15-vae"]
    assert again[0].endswith("matches the record")


def broken(tmp_path: Path, kind: str) -> Path:
    """A copy of the autoencoder with something wrong."""
    write_autoencoder(tmp_path, small=True, seed=0)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    if kind == "shape":
        tensors["encoder.conv_in.weight"] = tensors["encoder.conv_in.weight"][:, :2].contiguous()
        save_file(tensors, file)
    elif kind == "lacking":
        save_file({name: tensor for name, tensor in tensors.items() if name != "quant_conv.bias"}, file)
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:5000])
    elif kind == "class":
        config = (tmp_path / "config.json").read_text().replace("AutoencoderKL", "AutoencoderTiny")
        (tmp_path / "config.json").write_text(config)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shape", r"encoder\.conv_in\.weight: expected 32x3x3x3 by its config\.json, found 32x2x3x3"),
        ("lacking", r"quant_conv\.bias: expected 8 by its config\.json, found none"),
        ("cut", "expected a complete file of tensors"),
        ("class", "expected the config.json of AutoencoderKL or AutoencoderDC, found AutoencoderTiny"),
    ],
)
def test_wrong_tensors_are_found_from_the_header(tmp_path: Path, kind: str, message: str) -> None:
    """The error names the tensor and both shapes; the finding has the command that fetches the part."""
    place = broken(tmp_path / "stable-diffusion-v1-5" / "vae", kind)
    found = check(Use(name="sd15-vae", fields=("encode.autoencoder",), place=place))
    assert found.state == "invalid"
    assert found.command == f"spinmeround weights fetch sd15-vae --to {tmp_path}"
    with pytest.raises(SpinMeRoundError, match=message):
        inspect("sd15-vae", place)


def test_insightface_network_is_not_arc2face_network(stubs: Path, tmp_path: Path) -> None:
    """Inputs and outputs are equal, so the file name decides, in a pack too. A detector is refused as well."""
    data = (stubs / "arc2face/arcface.onnx").read_bytes()
    (tmp_path / "glintr100.onnx").write_bytes(data)
    with pytest.raises(SpinMeRoundError, match=r"Arc2Face requires the embeddings of its own arcface\.onnx"):
        inspect("arcface", tmp_path / "glintr100.onnx")
    pack = shutil.copytree(stubs / "antelopev2", tmp_path / "antelopev2")
    (pack / "glintr100.onnx").write_bytes(data)
    found = check(Use(name="arcface", fields=("embed.recognition",), place=pack))
    assert found.state == "invalid"
    assert "glintr100.onnx: this is InsightFace's own" in found.seen
    (tmp_path / "arcface.onnx").write_bytes((stubs / "antelopev2/scrfd_10g_bnkps.onnx").read_bytes())
    with pytest.raises(SpinMeRoundError, match="expected a network from"):
        inspect("arcface", tmp_path / "arcface.onnx")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path, ("/tmp/x",))


def test_a_pickle_that_runs_code_is_refused(stubs: Path, tmp_path: Path) -> None:
    """Arc2Face's encoder is published as a pickle: only tensors are read from it."""
    (tmp_path / "config.json").write_bytes((stubs / "arc2face/encoder/config.json").read_bytes())
    torch.save({"text_model.final_layer_norm.weight": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(SpinMeRoundError, match="found code or no pickle"):
        inspect("arc2face-encoder", tmp_path)


def test_loaders_of_missing_parts_use_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader whose file is missing names the file and makes no request."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a loader wants to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    absent = tmp_path / "absent"
    loaders = (load_autoencoder, open_pack, FaceDetector, ArcFaceEmbedder, Landmarks3D)
    for load in loaders:
        with pytest.raises(ValueError, match="absent"):
            load(absent)
    assert isinstance(load_lpips(absent), Missing)
    (absent / "vae").mkdir(parents=True)
    (absent / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ConfigError, match=r"absent.*found no file of weights"):
        load_autoencoder(absent / "vae")


def test_panohead_pickle_is_hashed_and_not_opened(tmp_path: Path) -> None:
    """A pickle that would run code is only hashed; a hash that differs from the profile's is invalid."""
    pickled = tmp_path / "network.pkl"
    pickled.write_bytes(b"\x80\x04cos\nabort\n)R.")
    sha256 = hashlib.sha256(pickled.read_bytes()).hexdigest()
    use = Use(name="panohead", fields=("generator.options.network",), place=pickled)
    assert f"to trust it: --set generator.options.sha256={sha256}" in check(use).seen
    assert check(replace(use, sha256=sha256)).state == "found"
    found = check(replace(use, sha256="0" * 64))
    assert (found.state, "the profile requires SHA-256" in found.seen) == ("invalid", True)
