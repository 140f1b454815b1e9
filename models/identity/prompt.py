"""The prompt that carries an identity, "photo of a id person", as token ids."""

from typing import Any

from pydantic import Field, model_validator

from spinmeround.storage.records import FrozenParams


class PromptTokens(FrozenParams):
    """Token ids of the prompt. Defaults are those of CLIP's tokenizer for "photo of a id person"."""

    words: tuple[int, ...] = Field((1125, 539, 320, 1014, 2533), description="The prompt without start and end tokens")
    identity: int = Field(1014, description="Token of the prompt that the identity embedding replaces")
    start: int = Field(49406, ge=0, description="Start token")
    end: int = Field(49407, ge=0, description="End token")
    padding: int = Field(49407, ge=0, description="Padding token")
    length: int = Field(77, ge=2, description="Length of every prompt, in tokens")

    @model_validator(mode="after")
    def _consistent(self) -> "PromptTokens":
        if self.words.count(self.identity) != 1:
            raise ValueError(f"identity: expected once among words {self.words}, got {self.identity}")
        if len(self.words) + 2 > self.length:
            raise ValueError(f"length: expected {len(self.words) + 2} or more for this prompt, got {self.length}")
        return self

    @classmethod
    def from_tokenizer(cls, tokenizer: Any) -> "PromptTokens":
        """The ids that a CLIP tokenizer assigns to "photo of a id person".

        Raises ValueError for a vocabulary in which `id` is not a single token.
        """
        start, *words, end = tokenizer("photo of a id person").input_ids
        identity = tokenizer("id", add_special_tokens=False).input_ids
        if len(identity) != 1:
            raise ValueError(f"tokenizer: expected one token for `id`, got {len(identity)}; use CLIP's tokenizer")
        length = tokenizer.model_max_length
        padding = tokenizer("", padding="max_length", max_length=length).input_ids[-1]
        return cls(words=tuple(words), identity=identity[0], start=start, end=end, padding=padding, length=length)

    def prompt(self) -> list[int]:
        """The `length` token ids of the prompt with an identity."""
        return self._padded(self.words)

    def empty(self) -> list[int]:
        """The `length` token ids of the empty prompt."""
        return self._padded(())

    def _padded(self, words: tuple[int, ...]) -> list[int]:
        return [self.start, *words, self.end] + [self.padding] * (self.length - len(words) - 2)
