"""Error rates with intervals: how sure a share of heads is, and how many more heads would make it surer."""

from dataclasses import dataclass
from functools import cached_property

from scipy.stats import binomtest

CONFIDENCE = 0.95

MOST_TRIALS = 1_000_000
"""Number of heads beyond which no interval is searched for."""


@dataclass(frozen=True)
class Rate:
    """`count` of `trials` heads, with Wilson's interval of the share at 95% confidence (0 to 1 without heads)."""

    count: int
    trials: int

    @property
    def share(self) -> float:
        """The observed share; NaN without heads."""
        return self.count / self.trials if self.trials else float("nan")

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Bounds of the interval."""
        if not self.trials:
            return 0.0, 1.0
        found = binomtest(self.count, self.trials).proportion_ci(CONFIDENCE, method="wilson")
        return float(found.low), float(found.high)

    @property
    def width(self) -> float:
        """Width of the interval."""
        low, high = self.interval
        return high - low

    def more_trials(self, width: float) -> int:
        """How many more heads at the same share narrow the interval to `width`; 0 if it is that narrow already.

        Raises:
            ValueError: unless `width` is between 0 and 1, or if more than MOST_TRIALS heads are necessary.
        """
        if not 0.0 < width < 1.0:
            raise ValueError(f"width: expected more than 0 and less than 1, got {width:g}")
        share = self.share if self.trials else 0.5
        low, high = self.trials, max(2 * self.trials, 8)
        if self.width <= width:
            return 0
        while Rate(round(share * high), high).width > width:
            low, high = high, 2 * high
            if high > MOST_TRIALS:
                raise ValueError(f"width: expected one that {MOST_TRIALS:,} heads can reach, got {width:g}")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if Rate(round(share * middle), middle).width <= width else (middle, high)
        return high - self.trials

    def text(self) -> str:
        """The share with its interval, as `4.0% (1.1% to 13.5%)`."""
        low, high = self.interval
        return f"{self.share:.1%} ({low:.1%} to {high:.1%})" if self.trials else "unknown"
