"""What a pass through the base costs, learned from the passes themselves: a start, and the same for every token.

How long a pass may be follows from it, in multiples of its start. Everybody who arrives while a pass runs waits for its
end; a pass that is much longer than its start gains nothing more by its length; and one that is hardly longer is not
worth dividing between lanes. Measured with short texts on one core: with AMX in bf16 a start costs as much as 50 to 70
tokens, with AVX2 in fp32 as much as 12.
"""

from __future__ import annotations

from typing import TypeVar

from models.serving.fair_queue import Costed, FairQueue

Row = TypeVar("Row", bound=Costed)

# A pass of so many times its start spends a ninth on it: being longer saves little.
_WORTH_STARTS = 8.0
# How far those fill it up who have more waiting, while others come and go (`fairness`).
_FILL_STARTS = 2.0
# From so many on they are divided between lanes.
_DIVISIBLE_STARTS = 2.0
# A handful of short texts, whatever was measured.
LEAST_PASS_TOKENS = 32
# Of what an earlier pass counts for, this much is left with the next one: the last fifty make the picture.
_KEPT = 0.98
# Before passes of several sizes tell: between what was measured on slow and on quick processors.
_START_TOKENS = 20.0
_ROWS_PER_S = 500.0
# A start can be told from the tokens after so many passes, if their sizes spread by so much of the mean.
_LEAST_PASSES = 8.0
_LEAST_SPREAD = 0.15
_MOST_TIMES = 1.5  # what it should have taken: a machine that became slower is believed step by step
# As long as sizes do not spread, every eighth pass is a quarter as long: it costs a hundredth, and they do.
_PROBE_EVERY, _PROBE_PART = 8, 4
# What a busy machine makes of a fit stays within what processors show.
_LEAST_START_TOKENS, _MOST_START_TOKENS = 4.0, 160.0


class PassCost:
    """Follows the passes of one engine. `observe` is for one thread at a time; whoever only reads need not wait."""

    def __init__(self) -> None:
        # Sums over the last passes, earlier ones counting less.
        self._passes = self._rows = self._tokens = self._squares = self._products = 0.0
        self._seconds = self._believed_s = 0.0  # as they were, and as much of them as the fit believes
        self.start_tokens = _START_TOKENS  # how many tokens cost as much as the start of a pass
        self.rows_per_s = _ROWS_PER_S  # in passes such as the last ones, one after the other
        self._silent = 0  # passes since their sizes told something

    def observe(self, tokens: int, rows: int, seconds: float) -> None:
        """A pass has ended."""
        seconds = max(seconds, 1e-6)
        believed_s = seconds
        if self._passes >= _LEAST_PASSES:  # one that stalled would count for as much as fifty others
            token_s = self._believed_s / (self._tokens + self.start_tokens * self._passes)
            believed_s = min(seconds, _MOST_TIMES * token_s * (tokens + self.start_tokens))
        self._passes = _KEPT * self._passes + 1.0
        self._rows = _KEPT * self._rows + rows
        self._tokens = _KEPT * self._tokens + tokens
        self._squares = _KEPT * self._squares + tokens * tokens
        self._seconds = _KEPT * self._seconds + seconds
        self._believed_s = _KEPT * self._believed_s + believed_s
        self._products = _KEPT * self._products + tokens * believed_s
        if self._passes >= _LEAST_PASSES:
            self._tell_start_from_tokens()
        self.rows_per_s = self._rows / self._seconds

    @property
    def probes(self) -> bool:
        """Whether the next pass should be a short one, to learn from it."""
        return self._silent % _PROBE_EVERY == _PROBE_EVERY - 1

    def _tell_start_from_tokens(self) -> None:
        """Least squares of seconds = start + tokens * token_s."""
        mean, mean_s = self._tokens / self._passes, self._believed_s / self._passes
        variance = self._squares / self._passes - mean * mean
        covariance = self._products / self._passes - mean * mean_s
        if variance >= (_LEAST_SPREAD * mean) ** 2 and covariance > 0:
            fitted = mean_s * variance / covariance - mean
            self.start_tokens = min(max(fitted, _LEAST_START_TOKENS), _MOST_START_TOKENS)
            self._silent = 0
        else:
            self._silent += 1


def next_pass(queue: FairQueue[Row], cost: PassCost, *, most: int, lanes: int) -> list[Row]:
    """The rows that one of several lanes takes from the queue now, of up to `most` tokens."""
    start = cost.start_tokens
    budget = min(most, _tokens(_WORTH_STARTS * start))
    return queue.take(
        max(1, budget // _PROBE_PART) if cost.probes else budget,
        takers=lanes,
        least=int(_DIVISIBLE_STARTS * start),
        fill=_tokens(_FILL_STARTS * start),
    )


def _tokens(count: float) -> int:
    return max(LEAST_PASS_TOKENS, int(count))
