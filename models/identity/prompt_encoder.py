"""Identity embeddings as prompt embeddings, after Arc2Face (Papantoniou et al. 2024).

The prompt "photo of a id person" passes through a CLIP text encoder in which the token embedding of `id` is replaced by
the ArcFace vector, zero-padded to the encoder's width. The encoder's own forward runs, with its causal mask and
position embeddings. The unconditional input is the empty prompt.
"""

from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import CLIPTextModel

from spinmeround.models.identity.params import EMBEDDING_SIZE
from spinmeround.models.identity.prompt import PromptTokens


class IdentityPromptEncoder(nn.Module):
    """Prompt embeddings (the text encoder's last hidden states) of identities. Differentiable in encoder and identity.

    Not thread-safe: a forward hook, active only during a call, replaces the token embedding. Raises ValueError for an
    encoder that is narrower than an embedding, shorter than the prompt, or lacks the prompt's tokens.
    """

    def __init__(self, text_encoder: CLIPTextModel, tokens: PromptTokens | None = None) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.tokens = tokens or PromptTokens()
        config = text_encoder.config
        _require("hidden_size", EMBEDDING_SIZE, config.hidden_size)
        _require("max_position_embeddings", self.tokens.length, config.max_position_embeddings)
        _require("vocab_size", max(self.tokens.prompt()) + 1, config.vocab_size)

    def forward(self, identities: Float[Tensor, "n 512"]) -> Float[Tensor, "n length width"]:
        """Prompt embeddings of unit-length ArcFace embeddings."""
        tokens = self._token_ids(self.tokens.prompt(), len(identities))
        is_identity = (tokens == self.tokens.identity)[..., None]  # n length 1
        padded = nn.functional.pad(identities, (0, self.text_encoder.config.hidden_size - EMBEDDING_SIZE))

        def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return torch.where(is_identity, padded[:, None].to(output.dtype), output)

        # CLIPTextModel.forward accepts no embeddings, so the hook replaces the output of its token embedding
        handle = self.text_encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            return self._encode(tokens)
        finally:
            handle.remove()

    def empty_prompt(self, n: int) -> Float[Tensor, "n length width"]:
        """Prompt embeddings of the empty prompt, n times."""
        return self._encode(self._token_ids(self.tokens.empty(), n))

    def _encode(self, tokens: Int64[Tensor, "n length"]) -> Float[Tensor, "n length width"]:
        states: Tensor = self.text_encoder(tokens).last_hidden_state
        return states

    def _token_ids(self, prompt: list[int], n: int) -> Int64[Tensor, "n length"]:
        return repeat(torch.tensor(prompt, device=self.text_encoder.device), "l -> n l", n=n)


def _require(name: str, minimum: int, got: int) -> None:
    if got < minimum:
        raise ValueError(f"text encoder: expected {name} of {minimum} or more, got {got}")
