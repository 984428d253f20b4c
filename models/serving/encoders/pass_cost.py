"""The cost of a pass through the base, fitted to the passes themselves: a fixed cost plus a cost per token.

How long a pass may be follows from it, in multiples of the fixed cost. Every row that arrives while a pass runs waits
for its end; a pass that costs many times the fixed cost gains nothing more by its length; and one that costs hardly
more is not worth dividing between worker threads. Measured with short texts on one core: the fixed cost is that of 50
to 70 tokens with AMX in bf16, and of 12 with AVX2 in fp32.
"""

from __future__ import annotations

from models.serving.fair_queue import FairQueue, Item

# A pass of so many times the fixed cost spends a ninth on it: being longer saves little.
_LONGEST_FIXED_COSTS = 8.0
# How far customers with more waiting fill it up, while others come and go (see `fair_queue`).
_FILL_FIXED_COSTS = 2.0
# From so many on, what waits is divided between worker threads.
_DIVISIBLE_FIXED_COSTS = 2.0
# A few short texts, whatever was measured.
LEAST_PASS_TOKENS = 32
# An earlier pass counts for so much less with every further one: the last fifty decide.
_KEPT = 0.98
# Before there were passes of several sizes: between what was measured on slow and on quick processors.
_FIXED_TOKENS = 20.0
_ROWS_PER_S = 500.0
# Fixed cost and cost per token can be separated after so many passes, if their sizes spread by so much of the mean.
_LEAST_PASSES = 8.0
_LEAST_SPREAD = 0.15
_MOST_TIMES = 1.5  # of what it should have taken: a machine that became slower is followed step by step
# As long as sizes do not spread, every eighth pass is a quarter as long: that costs a hundredth, and they spread.
_PROBE_EVERY, _PROBE_PART = 8, 4
# A fit on a busy machine stays within what was measured on processors.
_LEAST_FIXED_TOKENS, _MOST_FIXED_TOKENS = 4.0, 160.0


class PassCost:
    """Follows the passes of one engine. `observe` is for one thread at a time; reading needs no lock."""

    def __init__(self) -> None:
        # Sums over the last passes, earlier ones counting less.
        self._passes = self._rows = self._tokens = self._squares = self._products = 0.0
        self._seconds = self._counted_s = 0.0  # as they were, and as the fit counts them
        self.fixed_tokens = _FIXED_TOKENS  # the fixed cost of a pass, in tokens that cost as much
        self.rows_per_s = _ROWS_PER_S  # in passes such as the last ones, one after the other
        self._alike = 0  # passes since their sizes were spread enough for a fit

    def observe(self, tokens: int, rows: int, seconds: float) -> None:
        """Count a pass that has ended."""
        seconds = max(seconds, 1e-6)
        counted_s = seconds
        if self._passes >= _LEAST_PASSES:  # one that stalled would count for as much as fifty others
            token_s = self._counted_s / (self._tokens + self.fixed_tokens * self._passes)
            counted_s = min(seconds, _MOST_TIMES * token_s * (tokens + self.fixed_tokens))
        self._passes = _KEPT * self._passes + 1.0
        self._rows = _KEPT * self._rows + rows
        self._tokens = _KEPT * self._tokens + tokens
        self._squares = _KEPT * self._squares + tokens * tokens
        self._seconds = _KEPT * self._seconds + seconds
        self._counted_s = _KEPT * self._counted_s + counted_s
        self._products = _KEPT * self._products + tokens * counted_s
        if self._passes >= _LEAST_PASSES:
            self._fit()
        self.rows_per_s = self._rows / self._seconds

    @property
    def probes(self) -> bool:
        """Return whether the next pass should be a short one, to learn from it."""
        return self._alike % _PROBE_EVERY == _PROBE_EVERY - 1

    def _fit(self) -> None:
        """Fit seconds = fixed_s + tokens * token_s by least squares."""
        mean, mean_s = self._tokens / self._passes, self._counted_s / self._passes
        variance = self._squares / self._passes - mean * mean
        covariance = self._products / self._passes - mean * mean_s
        if variance >= (_LEAST_SPREAD * mean) ** 2 and covariance > 0:
            fitted = mean_s * variance / covariance - mean
            self.fixed_tokens = min(max(fitted, _LEAST_FIXED_TOKENS), _MOST_FIXED_TOKENS)
            self._alike = 0
        else:
            self._alike += 1


def next_pass(queue: FairQueue[Item], cost: PassCost, *, most: int, takers: int) -> list[Item]:
    """Take from the queue what one of several worker threads computes now, of up to `most` tokens."""
    fixed = cost.fixed_tokens
    budget = min(most, _tokens(_LONGEST_FIXED_COSTS * fixed))
    return queue.take(
        max(1, budget // _PROBE_PART) if cost.probes else budget,
        takers=takers,
        least=int(_DIVISIBLE_FIXED_COSTS * fixed),
        fill=_tokens(_FILL_FIXED_COSTS * fixed),
    )


def _tokens(count: float) -> int:
    return max(LEAST_PASS_TOKENS, int(count))
