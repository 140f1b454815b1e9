"""The prompt encoder compared with Arc2Face's published arithmetic, at full width and in the published file format."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPTextModel

from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from spinmeround.tasks.weights.stub_diffusion import write_text_encoder

HEADS = 12


def published_arithmetic(tensors: dict[str, Tensor], embedding: Tensor) -> Tensor:
    """Arc2Face's prompt embeddings of one identity, in plain operations on the published tensors.

    Token embeddings of the prompt, with the row of `id` replaced by the zero-padded identity; position embeddings;
    CLIP's layers (pre-norm, quick GELU) with causal attention; the final normalisation.
    """
    weights = {name.removeprefix("text_model."): tensor.double() for name, tensor in tensors.items()}
    prompt = PromptTokens().prompt()
    state = weights["embeddings.token_embedding.weight"][prompt].clone()
    state[prompt.index(1014)] = torch.cat([embedding.double(), torch.zeros(768 - 512, dtype=torch.float64)])
    state = state + weights["embeddings.position_embedding.weight"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    layers = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layers."))
    for layer in range(layers):
        prefix = f"encoder.layers.{layer}"
        x = norm(f"{prefix}.layer_norm1", state)
        q, k, v = (linear(f"{prefix}.self_attn.{part}_proj", x).reshape(77, HEADS, 64) for part in "qkv")
        attended = torch.zeros(77, HEADS, 64, dtype=torch.float64)
        for token in range(77):
            scores = torch.einsum("hd,thd->ht", q[token], k[: token + 1]) / 8.0
            attended[token] = torch.einsum("ht,thd->hd", scores.softmax(-1), v[: token + 1])
        state = state + linear(f"{prefix}.self_attn.out_proj", attended.reshape(77, 768))
        x = linear(f"{prefix}.mlp.fc1", norm(f"{prefix}.layer_norm2", state))
        state = state + linear(f"{prefix}.mlp.fc2", x * torch.sigmoid(1.702 * x))
    return norm("final_layer_norm", state)


@pytest.fixture(
    scope="module", params=[pytest.param(True, id="2 layers"), pytest.param(False, id="all", marks=pytest.mark.slow)]
)
def encoder_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the format of Arc2Face's `encoder/`: config.json and pytorch_model.bin with `text_model.`
    keys."""
    folder = tmp_path_factory.mktemp("arc2face") / "encoder"
    write_text_encoder(folder, small=request.param, seed=7, pickled=True, vocabulary=49408)
    return folder


def identities(n: int) -> Tensor:
    return normalize(torch.randn(n, 512, generator=torch.Generator().manual_seed(3)), dim=-1)


def states(folder: Path, embeddings: Tensor) -> Tensor:
    encoder = CLIPTextModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        result: Tensor = IdentityPromptEncoder(encoder)(embeddings)
    return result


def test_equals_the_published_arithmetic(encoder_folder: Path) -> None:
    """For one identity and for a batch of three, in float32 against a slow float64 reference."""
    tensors = torch.load(encoder_folder / "pytorch_model.bin", weights_only=True)  # noqa: TID251 (a file of this test)
    expected = torch.stack([published_arithmetic(tensors, embedding) for embedding in identities(3)])
    for n in (1, 3):
        got = states(encoder_folder, identities(n))
        torch.testing.assert_close(got.double(), expected[:n], atol=2e-5, rtol=2e-5)
    spread = (expected[0] - expected[1]).abs().amax(-1)
    assert float(spread[:4].max()) == 0.0  # start, photo, of, a precede the identity
    assert float(spread[4:].min()) > 1e-3


def test_old_and_new_parameter_names_load_equally(encoder_folder: Path, tmp_path: Path) -> None:
    """An encoder saved by the installed transformers gives bit-identical results to the published file."""
    CLIPTextModel.from_pretrained(encoder_folder, local_files_only=True).save_pretrained(tmp_path)
    assert torch.equal(states(tmp_path, identities(2)), states(encoder_folder, identities(2)))
