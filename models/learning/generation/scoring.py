"""How probable a model finds the answers of some rows, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones.parallel import in_parallel
from models.learning.contract.errors import Stopped
from models.learning.evaluation import scores
from models.learning.generation.network import WritingNetwork
from models.learning.generation.packing import batches, pack
from models.learning.generation.rows import TokenRow, shared_prefix

_PASS_TOKENS = 2_048
_RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class RowScores:
    """Of each row: summed log-probability of its learned tokens, their number, how many were the first choice."""

    log_probability_N: NDArray[np.float64]
    tokens_N: NDArray[np.float64]
    first_N: NDArray[np.float64]

    @property
    def chosen(self) -> NDArray[np.float64]:
        """What the task's tally is made of, (N, 2)."""
        return np.stack([self.log_probability_N, self.tokens_N], axis=1)

    @property
    def loss(self) -> float:
        """Negative log-probability per token."""
        return float(-self.log_probability_N.sum() / max(self.tokens_N.sum(), 1.0))

    @property
    def accuracy(self) -> float:
        """Share of the tokens that were the first choice."""
        return float(self.first_N.sum() / max(self.tokens_N.sum(), 1.0))

    def take(self, rows: NDArray[np.int64]) -> RowScores:
        """Return the scores of some rows."""
        return RowScores(self.log_probability_N[rows], self.tokens_N[rows], self.first_N[rows])

    def figures(self, seed: int) -> dict[str, Any]:
        """Return loss, perplexity and token accuracy with their 95 % intervals over rows."""
        generator = np.random.default_rng(seed)
        rows = len(self.tokens_N)
        drawn_RN = generator.multinomial(rows, np.full(rows, 1 / rows), _RESAMPLES).astype(np.float64)
        tokens_R = np.maximum(drawn_RN @ self.tokens_N, 1.0)
        loss_R, first_R = -(drawn_RN @ self.log_probability_N) / tokens_R, drawn_RN @ self.first_N / tokens_R
        return {
            "loss": _with_interval(self.loss, loss_R),
            "perplexity": _with_interval(float(np.exp(self.loss)), np.exp(loss_R)),
            "token_accuracy": _with_interval(self.accuracy, first_R),
            "tokens": int(self.tokens_N.sum()),
        }


def score(
    network: WritingNetwork,
    rows: Sequence[TokenRow],
    *,
    threads: int,
    stop: Callable[[], bool],
    tokens: int = _PASS_TOKENS,
) -> RowScores:
    """Score rows under the network as it is. Raises Stopped."""
    found_3N = np.zeros((3, len(rows)))
    prefix = shared_prefix(rows)
    device = network.decoder.head.weight.device

    def fill(batch: list[int]) -> None:
        if stop():
            raise Stopped
        with torch.inference_mode():
            packed = pack([rows[at] for at in batch], prefix, device)
            losses_M, first_M = (found.cpu() for found in network.losses(packed, stop=stop))
        owner_M = packed.rows_M.cpu().numpy()
        for at, values in enumerate((-losses_M, torch.ones_like(losses_M), first_M)):
            found_3N[at, batch] = np.bincount(owner_M, values.double().numpy(), minlength=len(batch))

    for _ in in_parallel(fill, batches(rows, prefix, tokens), threads=threads):
        pass
    return RowScores(*found_3N)


def _with_interval(value: float, values_R: NDArray[np.float64]) -> dict[str, float]:
    low, high = scores.interval(value, values_R)
    return {"value": value, "low": low, "high": high}
