"""Identity as text states, after Arc2Face (Papantoniou et al. 2024): the prompt "photo of a id person" goes through
a CLIP text encoder with the token embedding of `id` replaced by the ArcFace vector, zero-padded to the encoder's width.

The encoder's own forward is used, with its causal mask and position embeddings. "Unconditional" is the empty prompt.
"""

from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import CLIPTextModel

from spinmeround.models.identity.prompt import PromptTokens

IDENTITY_WIDTH = 512


class IdentityConditioner(nn.Module):
    """Text states of identity embeddings. Gradients flow into the encoder and the embeddings alike.

    Not for concurrent use: the replacement rides on a hook that lives only while a call lasts.
    Raises ValueError for an encoder that is too narrow for an embedding, too short for the prompt or lacks its tokens.
    """

    def __init__(self, text_encoder: CLIPTextModel, tokens: PromptTokens | None = None) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.tokens = tokens or PromptTokens()
        config = text_encoder.config
        _require("hidden_size", IDENTITY_WIDTH, config.hidden_size)
        _require("max_position_embeddings", self.tokens.length, config.max_position_embeddings)
        _require("vocab_size", max(self.tokens.prompt()) + 1, config.vocab_size)

    def forward(self, embeddings: Float[Tensor, "n 512"]) -> Float[Tensor, "n length width"]:
        """Text states of unit-length ArcFace embeddings."""
        tokens = self._ids(self.tokens.prompt(), len(embeddings))
        is_identity = (tokens == self.tokens.identity)[..., None]  # n length 1
        padded = nn.functional.pad(embeddings, (0, self.text_encoder.config.hidden_size - IDENTITY_WIDTH))

        def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return torch.where(is_identity, padded[:, None].to(output.dtype), output)

        # CLIPTextModel.forward takes no embeddings, so the replacement is made where it looks the tokens up
        handle = self.text_encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            return self._states(tokens)
        finally:
            handle.remove()

    def unconditional(self, n: int) -> Float[Tensor, "n length width"]:
        """Text states of the empty prompt, n times."""
        return self._states(self._ids(self.tokens.empty(), n))

    def _states(self, tokens: Int64[Tensor, "n length"]) -> Float[Tensor, "n length width"]:
        states: Tensor = self.text_encoder(tokens).last_hidden_state
        return states

    def _ids(self, prompt: list[int], n: int) -> Int64[Tensor, "n length"]:
        return repeat(torch.tensor(prompt, device=self.text_encoder.device), "l -> n l", n=n)


def _require(name: str, at_least: int, got: int) -> None:
    if got < at_least:
        raise ValueError(f"text encoder: expected {name} of {at_least} or more, got {got}")
