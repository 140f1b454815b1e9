"""Prompt embeddings of a training's identities; those of a frozen text encoder are computed once per identity."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from spinmeround.models.identity.prompt_encoder import IdentityPromptEncoder

_CACHE_BYTES = 256 * 2**20


class PromptStates:
    """Prompt embeddings by `encoder`; cached if it is frozen.

    Each identity is then encoded by itself, so that an embedding does not depend on the others of its batch, nor on
    whether it was cached.
    """

    def __init__(self, encoder: IdentityPromptEncoder) -> None:
        self.encoder = encoder
        self.frozen = not any(weight.requires_grad for weight in encoder.parameters())
        self._cached: OrderedDict[bytes, Tensor] = OrderedDict()

    def __call__(self, identities: Float[Tensor, "sample 512"]) -> Float[Tensor, "sample token channel"]:
        """Prompt embeddings of identities, on the encoder's device."""
        if not self.frozen:
            states: Tensor = self.encoder(identities.to(self.encoder.text_encoder.device))
            return states
        device = self.encoder.text_encoder.device
        return torch.cat(
            [
                self._remembered(identity.numpy().tobytes(), lambda: self.encoder(identity[None].to(device)))  # noqa: B023
                for identity in identities.cpu()
            ]
        )

    def empty(self, samples: int) -> Float[Tensor, "sample token channel"]:
        """Prompt embeddings of the empty prompt, once per sample."""
        if not self.frozen:
            return self.encoder.empty_prompt(samples)
        return self._remembered(b"", lambda: self.encoder.empty_prompt(1)).expand(samples, -1, -1)

    @torch.no_grad()
    def _remembered(self, key: bytes, encode: Callable[[], Tensor]) -> Float[Tensor, "1 token channel"]:
        """The states of one prompt, from the cache or by `encode`; the least recently used are forgotten."""
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key]
        states = self._cached[key] = encode()
        while len(self._cached) * states.nbytes > _CACHE_BYTES and len(self._cached) > 1:
            self._cached.popitem(last=False)
        return states
