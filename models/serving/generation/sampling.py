"""Choosing the next token: greedy, or drawn by temperature and top_p with a random number of the answer's own.

The choice depends on the answer's own logits, seed and tokens alone, never on what else is in the step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.serving.writing import SamplingParams

Floats = NDArray[np.float32]

# The same choice as greedy: of two logits that differ the lesser has no weight left.
_LEAST_TEMPERATURE = 1e-30


@dataclass(frozen=True, slots=True)
class ChosenToken:
    """A token, its log probability and the best ones beside it, where they were asked for."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one answer."""

    def __init__(self, params: SamplingParams, *, choice: int = 0) -> None:
        """Create the sampler of one of `n` choices; with a seed each draws the same numbers every time."""
        self.params = params
        entropy = None if params.seed is None else (params.seed % 2**64, choice)
        self._random = np.random.default_rng(entropy)
        self._counts: Counter[int] = Counter()

    def choose(self, logits_V: Floats, allowed_V: NDArray[np.bool_] | None = None) -> ChosenToken:
        """Return the next token; only those that are allowed may be chosen."""
        params = self.params
        adjusted_V = self._adjust(logits_V, allowed_V)
        # What is next to 0 in the logits' precision overflows as a divisor.
        greedy = params.temperature < _LEAST_TEMPERATURE or params.top_p == 0
        token = int(adjusted_V.argmax()) if greedy else self._draw(adjusted_V)
        self._counts[token] += 1
        if params.logprobs is None:
            return ChosenToken(token)
        # Of the model itself: before what the request adds, and among what is allowed.
        plain_V = logits_V if allowed_V is None else np.where(allowed_V, logits_V, -np.inf)
        logprobs_V = _log_softmax(plain_V)
        top = _largest(logprobs_V, params.logprobs) if params.logprobs else ()
        return ChosenToken(token, float(logprobs_V[token]), tuple((int(one), float(logprobs_V[one])) for one in top))

    def _adjust(self, logits_V: Floats, allowed_V: NDArray[np.bool_] | None) -> Floats:
        params = self.params
        penalised = bool(self._counts) and (params.presence_penalty or params.frequency_penalty)
        if not penalised and not params.logit_bias and allowed_V is None:
            return logits_V
        adjusted_V = logits_V.copy()
        if penalised:
            seen = np.fromiter(self._counts, dtype=np.int64)
            counts = np.fromiter(self._counts.values(), dtype=np.float32)
            adjusted_V[seen] -= params.presence_penalty + params.frequency_penalty * counts
        for token, bias in params.logit_bias.items():
            if 0 <= token < len(adjusted_V):
                adjusted_V[token] += bias
        if allowed_V is not None:
            adjusted_V[~allowed_V] = -np.inf
        return adjusted_V

    def _draw(self, logits_V: Floats) -> int:
        weights_V = np.exp((logits_V - logits_V.max()) / np.float32(self.params.temperature))
        total = float(weights_V.sum(dtype=np.float64))
        uniform = self._random.random()
        if self.params.top_p >= 1:
            return _pick(weights_V, uniform * total)
        wanted = self.params.top_p * total
        # All that are lighter than this weigh no more than what top_p leaves out: only the others are sorted.
        likely = np.flatnonzero(weights_V >= (total - wanted) / len(weights_V))
        likely = likely[np.argsort(-weights_V[likely], kind="stable")]
        kept = int(np.searchsorted(np.cumsum(weights_V[likely], dtype=np.float64), wanted)) + 1
        likely = likely[:kept]
        return int(likely[_pick(weights_V[likely], uniform * float(weights_V[likely].sum(dtype=np.float64)))])


def _pick(weights: Floats, point: float) -> int:
    cumulative = np.cumsum(weights, dtype=np.float64)
    return int(min(np.searchsorted(cumulative, point, side="right"), np.flatnonzero(weights)[-1]))


def _largest(values_V: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Return the places of the largest values, the largest first, of equal ones the first."""
    count = min(count, len(values_V))
    if count < len(values_V):
        least = values_V[np.argpartition(-values_V, count - 1)[:count]].min()
        places = np.flatnonzero(values_V >= least)
    else:
        places = np.arange(len(values_V))
    return places[np.argsort(-values_V[places], kind="stable")][:count]


def _log_softmax(logits_V: Floats) -> NDArray[np.float64]:
    shifted_V = logits_V.astype(np.float64) - float(logits_V.max())
    found: NDArray[np.float64] = shifted_V - np.log(np.exp(shifted_V).sum())
    return found


def cut_for_stop(text: str, stops: Sequence[str]) -> tuple[int, bool]:
    """Return how much of a text can be shown, and whether one of `stops` ends it there.

    A stop string may come in parts: an end of the text that one may begin with is held back.
    """
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    if found:
        return min(found), True
    held = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), held, -1):
            if text.endswith(stop[:length]):
                held = length
                break
    return len(text) - held, False
