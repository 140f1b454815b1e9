import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad
from transformers import CLIPTextModel, CLIPTokenizer

from spinmeround.models.identity.prompt import PromptTokens
from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder
from tests.models.diffusion.networks import TINY_PROMPT, tiny_text_encoder

POSITION = 1 + TINY_PROMPT.words.index(TINY_PROMPT.identity)


def embeddings(n: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(n, 512, generator=torch.Generator().manual_seed(seed)), dim=-1)


def prompt_encoder(**changes: int) -> IdentityPromptEncoder:
    return IdentityPromptEncoder(tiny_text_encoder(**changes), TINY_PROMPT)


def reference(encoder: CLIPTextModel, embedding: Tensor) -> Tensor:
    """Arc2Face's arithmetic for one identity: token embeddings with the row of `id` replaced, position embeddings, a
    causal mask, the encoder's layers, the final normalisation."""
    tokens = torch.tensor(TINY_PROMPT.prompt())
    hidden = encoder.embeddings.token_embedding(tokens)
    hidden[POSITION] = pad(embedding, (0, encoder.config.hidden_size - 512))
    hidden = (hidden + encoder.embeddings.position_embedding(torch.arange(len(tokens))))[None]
    mask = torch.full((len(tokens), len(tokens)), float("-inf")).triu(1)[None, None]
    for layer in encoder.encoder.layers:
        hidden = layer(hidden, attention_mask=mask)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return encoder.final_layer_norm(hidden)[0]


@pytest.mark.parametrize("width", [512, 768])
def test_equals_arc2face_arithmetic(width: int) -> None:
    """Each row of a batch equals the published procedure for a single identity."""
    ours = prompt_encoder(hidden_size=width)
    with torch.no_grad():
        got = ours(embeddings(3))
        expected = torch.stack([reference(ours.text_encoder, embedding) for embedding in embeddings(3)])
    assert got.shape == (3, 8, width)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_the_causal_mask_is_kept() -> None:
    """States before the identity token do not depend on it; its own and all later ones do."""
    ours = prompt_encoder()
    with torch.no_grad():
        a, b = ours(torch.cat([embeddings(1, seed=1), embeddings(1, seed=2)]))
    torch.testing.assert_close(a[:POSITION], b[:POSITION])
    assert bool(((a - b)[POSITION:].abs().amax(dim=-1) > 1e-4).all())


def test_empty_prompt_equals_the_encoder_on_its_tokens() -> None:
    """The encoder's output for start, end and padding tokens, also after a call with an identity."""
    ours = prompt_encoder()
    ids = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        ours(embeddings(2))
        expected = ours.text_encoder(ids).last_hidden_state.expand(3, -1, -1)
        torch.testing.assert_close(ours.empty_prompt(3), expected)


def test_the_hook_is_removed_after_each_call() -> None:
    """The encoder has no hooks after a call that succeeds or raises."""
    ours = prompt_encoder()
    table = ours.text_encoder.get_input_embeddings()
    ours(embeddings(1))
    with pytest.raises(RuntimeError):
        ours(embeddings(2).to("meta"))
    assert not table._forward_hooks


def test_gradients_reach_encoder_and_identity() -> None:
    """Both the encoder and the source of the identities can be trained."""
    ours, embedding = prompt_encoder(), embeddings(2).requires_grad_()
    ours(embedding)[:, POSITION:].square().sum().backward()
    assert embedding.grad is not None
    assert bool((embedding.grad.abs().amax(dim=-1) > 0).all())
    assert ours.text_encoder.embeddings.position_embedding.weight.grad is not None


def test_tokens_of_clip() -> None:
    """Default prompts have 77 tokens, start with 49406, contain `id` (1014) once and are padded with 49407."""
    tokens = PromptTokens()
    assert tokens.prompt()[:7] == [49406, 1125, 539, 320, 1014, 2533, 49407]
    assert set(tokens.prompt()[7:]) == {49407}
    assert len(tokens.prompt()) == len(tokens.empty()) == 77


def test_tokens_come_from_a_tokenizer() -> None:
    """A CLIP tokenizer with another vocabulary gives its own ids, in prompt order."""
    words = ["photo</w>", "of</w>", "a</w>", "id</w>", "person</w>"]
    pieces = ["<|startoftext|>", "<|endoftext|>", *"photfaiders", *(f"{c}</w>" for c in "ofadn"), *words]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [
        "p h",
        "ph o",
        "pho t",
        "phot o</w>",
        "o f</w>",
        "i d</w>",
        "p e",
        "pe r",
        "per s",
        "pers o",
        "perso n</w>",
    ]
    for merge in merges:
        vocabulary.setdefault(merge.replace(" ", ""), len(vocabulary))
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[tuple(merge.split()) for merge in merges], model_max_length=12)
    tokens = PromptTokens.from_tokenizer(tokenizer)
    assert tokens.words == tuple(vocabulary[word] for word in words)
    assert tokens.prompt() == tokenizer("photo of a id person", padding="max_length", max_length=12).input_ids
    assert tokens.empty() == tokenizer("", padding="max_length", max_length=12).input_ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 256}, "expected hidden_size of 512 or more, got 256"),
        ({"max_position_embeddings": 6}, "expected max_position_embeddings of 8 or more, got 6"),
        ({"vocab_size": 5}, "expected vocab_size of 7 or more, got 5"),
    ],
)
def test_encoders_that_are_too_small_are_refused(changes: dict[str, int], message: str) -> None:
    """The error names the size, the minimum and the value found."""
    with pytest.raises(ValueError, match=message):
        prompt_encoder(**changes)


def test_inconsistent_prompts_are_refused() -> None:
    """The identity token occurs exactly once, and the prompt fits its length."""
    with pytest.raises(ValueError, match="identity: expected once"):
        PromptTokens(words=(3, 4), identity=9)
    with pytest.raises(ValueError, match="length: expected 7 or more"):
        PromptTokens(length=6)
