"""A metric without a value, which tables name with its reason."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Missing:
    """A metric that is unavailable, and the reason, which tables print in place of a number."""

    reason: str

    def __str__(self) -> str:
        return f"missing: {self.reason}"
