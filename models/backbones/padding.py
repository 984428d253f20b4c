"""The padding of a batch: left out where each token is computed by itself, put back where rows are computed.

Rows that are compared with each other cannot be sorted by length, and nearly half of their batches was padding.

Shapes: B rows padded to T tokens; N tokens without padding; X numbers of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# In bf16 oneDNN compiles a kernel for every size of a product, which takes longer than a product of so few more tokens.
_BF16_GRAIN = 16

Move = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Padding:
    """Where the tokens of a padded batch are."""

    places_N: Tensor  # of the tokens, in the B * T places of the batch
    mask_B11T: Tensor  # bool, True where there is a token: attention's mask
    rows: int
    longest: int

    @classmethod
    def of(cls, lengths: NDArray[np.int64], mask_BT: Tensor) -> Padding:
        """Return the padding of rows of these lengths, whose tokens come first."""
        longest = mask_BT.shape[1]
        places_N = np.flatnonzero(np.arange(longest) < lengths[:, None])
        return cls(torch.from_numpy(places_N).to(mask_BT.device), mask_BT[:, None, None, :], len(lengths), longest)

    def remove(self, padded_BTX: Tensor) -> Tensor:
        """Return the tokens end to end, (N, X), in bf16 with a few zeros behind them."""
        tokens_NX: Tensor = _Move.apply(padded_BTX, self._gather, self._scatter)  # type: ignore[no-untyped-call]
        return tokens_NX

    def restore(self, tokens_NX: Tensor) -> Tensor:
        """Return the tokens in their places, (B, T, X), and zeros in all others; what lies behind them is dropped."""
        padded_BTX: Tensor = _Move.apply(tokens_NX, self._scatter, self._gather)  # type: ignore[no-untyped-call]
        return padded_BTX

    def _gather(self, padded_BTX: Tensor) -> Tensor:
        tokens = len(self.places_N)
        grain = _BF16_GRAIN if padded_BTX.dtype is torch.bfloat16 else 1
        tokens_NX = padded_BTX.new_empty(-(-tokens // grain) * grain, padded_BTX.shape[2])
        torch.index_select(padded_BTX.flatten(0, 1), 0, self.places_N, out=tokens_NX[:tokens])
        tokens_NX[tokens:] = 0
        return tokens_NX

    def _scatter(self, tokens_NX: Tensor) -> Tensor:
        flat_PX = tokens_NX.new_zeros(self.rows * self.longest, tokens_NX.shape[1])
        return flat_PX.index_copy_(0, self.places_N, tokens_NX[: len(self.places_N)]).view(self.rows, self.longest, -1)


class _Move(torch.autograd.Function):
    """Numbers moved by one function; `back` moves their gradients.

    Torch's own would add up gradients one by one, since places might come twice.
    """

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, there: Move, back: Move) -> Tensor:
        ctx.back = back
        return there(numbers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradients[0]), None, None
