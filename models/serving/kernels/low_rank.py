"""LoRA for many customers in one batch: low-rank products beside the base's linear layers.

In fp32 on a processor all products of a module are two calls of the BLAS, on the matrices where they lie (see
`batched_products`). Elsewhere each customer's tokens form a tile. A customer with many tokens takes plain products of
its own; those with few are padded to a common length and multiplied together, one batched product for all of them.
Tiles of similar length go together. Where they lie next to each other (rows are sorted by length, so they mostly do)
the result is added to a stretch of the batch, which is three times as fast as adding it token by token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from models.serving.adapters.low_rank import LoraWeights
from models.serving.kernels import batched_products
from models.serving.kernels.low_rank_by_address import ByAddress

# From so many tokens on a customer's own product is as fast per token as a batched one, and needs no padding.
ALONE_TOKENS = 96
# Tiles go together as long as the longest is no longer than this many times the shortest, and two tokens.
STRETCH = 1.3
# On a GPU a kernel costs more than the padding: more tokens before an adapter is multiplied alone, and fewer groups.
# The matrices of a group are stacked once per pass: not of more adapters than this, as it takes their memory again.
GPU_ALONE_TOKENS = 512
GPU_STRETCH = 16.0
GPU_GROUP = 256

At = tuple[int, str]


class HasLora(Protocol):
    """A version that may have low-rank matrices."""

    @property
    def lora(self) -> LoraWeights | None:
        """The matrices; None if it has none."""


class Rows(Protocol):
    """Rows of tokens that lie end to end."""

    @property
    def rows(self) -> int:
        """Number of rows."""

    @property
    def device(self) -> torch.device:
        """The device on which the tokens are."""

    def span(self, row: int) -> range:
        """Return the tokens of a row."""


@dataclass(slots=True)
class _OneAdapter:
    """One adapter on its own tokens."""

    weights: LoraWeights
    index_N: Tensor | None  # None: the whole batch

    def add(self, at: At, x_NI: Tensor, y_NO: Tensor) -> None:
        pair = self.weights.pairs.get(at)
        if pair is None:
            return
        mine_NI = x_NI if self.index_N is None else x_NI.index_select(0, self.index_N)
        ranks_NR = mine_NI @ pair.down_IR
        for ranks, outputs, up_RO in pair.ups:
            if self.index_N is None:
                y_NO[:, outputs].addmm_(ranks_NR[:, ranks], up_RO)
            else:
                y_NO[:, outputs].index_add_(0, self.index_N, ranks_NR[:, ranks] @ up_RO)


@dataclass(slots=True)
class _PaddedTiles:
    """G adapters of one shape on a padded tile of T tokens each."""

    weights: Sequence[LoraWeights]
    index_GT: Tensor  # token of each place; places of the padding repeat a token
    places_M: Tensor  # places that hold a token, in the order of the tokens
    tokens_M: Tensor  # and which tokens those are
    stretch: slice | None  # the tokens, if they are neighbours
    dense: bool  # neighbours, and no padding: the tiles are a view of the batch
    stacked: Mapping[tuple[At, int], Tensor] | None  # all adapters' matrices: down, then the ups; None: on demand

    def add(self, at: At, x_NI: Tensor, y_NO: Tensor) -> None:
        first = self.weights[0].pairs.get(at)
        if first is None:  # all are of one shape
            return
        groups, longest = self.index_GT.shape
        if self.dense and self.stretch is not None:
            x_GTI = x_NI[self.stretch].view(groups, longest, -1)
        else:
            x_GTI = x_NI.index_select(0, self.index_GT.view(-1)).view(groups, longest, -1)
        ranks_GTR = torch.bmm(x_GTI, self._stack(at, 0))
        for position, (ranks, outputs, _) in enumerate(first.ups):
            up_GRO = self._stack(at, 1 + position)
            mine_GTR = ranks_GTR if len(first.ups) == 1 else ranks_GTR[:, :, ranks]
            delta_PO = torch.bmm(mine_GTR, up_GRO).view(groups * longest, -1)
            if self.stretch is None:
                y_NO[:, outputs].index_add_(0, self.tokens_M, delta_PO.index_select(0, self.places_M))
            elif self.dense:
                y_NO[self.stretch, outputs].add_(delta_PO)
            else:
                y_NO[self.stretch, outputs].add_(delta_PO.index_select(0, self.places_M))

    def _stack(self, at: At, matrix: int) -> Tensor:
        if self.stacked is not None:
            return self.stacked[at, matrix]
        return torch.stack([weights.pairs[at].matrices()[matrix] for weights in self.weights])


_Part = _OneAdapter | _PaddedTiles | ByAddress


class LowRankPlan:
    """Implements `backbones.packed.LowRank` for one batch."""

    def __init__(self, parts: Sequence[_Part], touched: frozenset[At]) -> None:
        self._parts = parts
        self._touched = touched

    def touches(self, block: int, module: str) -> bool:
        """Return whether any adapter changes this module."""
        return (block, module) in self._touched

    def add(self, block: int, module: str, x_NI: Tensor, y_NO: Tensor) -> None:
        """Add every adapter's product to its tokens, in place."""
        at = (block, module)
        if at in self._touched:
            for part in self._parts:
                part.add(at, x_NI, y_NO)


def plan_low_rank(
    adapters: Sequence[HasLora], batch: Rows, *, by_address: bool | None = None, apart: bool = False
) -> LowRankPlan | None:
    """Return what is added to which tokens of a batch, None if nothing is; `adapters` are in packed order.

    `by_address`: whether matrices are multiplied where they lie; by default where that is possible and fast. `apart`:
    each row has products of its own even beside others of its adapter, by address if at all possible: its numbers are
    then the same, bit by bit, whatever else is in the batch.
    """
    rows_of: dict[int, list[int]] = {}
    weights_of: dict[int, LoraWeights] = {}
    for row, adapter in enumerate(adapters):
        if adapter.lora is not None:
            rows_of.setdefault(id(adapter.lora), []).append(row)
            weights_of[id(adapter.lora)] = adapter.lora
    if not rows_of:
        return None
    touched = frozenset(at for weights in weights_of.values() for at in weights.pairs)
    if by_address is None:
        by_address = _multiplies_by_address(next(iter(weights_of.values())))
    members = [(weights_of[key], rows) for key, rows in rows_of.items()]
    if apart and by_address:
        each = [(weights, [row]) for weights, rows in members for row in rows]
        # The BLAS multiplies single rows by another kernel if a call has nothing else: they have calls of their own.
        single = [member for member in each if len(batch.span(member[1][0])) == 1]
        longer = [member for member in each if len(batch.span(member[1][0])) > 1]
        return LowRankPlan([*_stretches(single, batch), *_stretches(longer, batch)], touched)
    if len(members) == 1 and len(members[0][1]) == batch.rows:
        return LowRankPlan([_OneAdapter(members[0][0], None)], touched)
    return LowRankPlan((_stretches if by_address else _tiles)(members, batch), touched)


def _multiplies_by_address(weights: LoraWeights) -> bool:
    matrix = next(iter(weights.pairs.values())).down_IR
    return matrix.device.type == "cpu" and matrix.dtype is torch.float32 and batched_products.available()


def _stretches(members: Sequence[tuple[LoraWeights, list[int]]], batch: Rows) -> list[_Part]:
    stretches: dict[tuple[object, ...], list[tuple[LoraWeights, range]]] = {}
    for weights, rows in members:
        spans = [batch.span(row) for row in rows]
        joined = [spans[0]]
        for span in spans[1:]:
            if span.start == joined[-1].stop:
                joined[-1] = range(joined[-1].start, span.stop)
            else:
                joined.append(span)
        stretches.setdefault(weights.shape, []).extend((weights, span) for span in joined)
    return [ByAddress(same) for same in stretches.values()]


def _tiles(members: Sequence[tuple[LoraWeights, list[int]]], batch: Rows) -> list[_Part]:
    parts: list[_Part] = []
    small: dict[tuple[object, ...], list[tuple[LoraWeights, list[int]]]] = {}
    on_gpu = batch.device.type != "cpu"
    alone = GPU_ALONE_TOKENS if on_gpu else ALONE_TOKENS
    for weights, rows in members:
        tokens = [token for row in rows for token in batch.span(row)]
        if len(tokens) >= alone:
            parts.append(_OneAdapter(weights, torch.tensor(tokens, device=batch.device)))
        else:
            small.setdefault(weights.shape, []).append((weights, tokens))
    for same in small.values():
        groups = _by_length(same, GPU_STRETCH, GPU_GROUP) if on_gpu else _by_length(same, STRETCH, len(same))
        parts += [_pad(group, batch) for group in groups]
    return parts


def _by_length(
    members: list[tuple[LoraWeights, list[int]]], stretch: float, most: int
) -> list[list[tuple[LoraWeights, list[int]]]]:
    members.sort(key=lambda member: (len(member[1]), member[1][0]))
    groups: list[list[tuple[LoraWeights, list[int]]]] = []
    for member in members:
        if groups and len(member[1]) <= stretch * len(groups[-1][0][1]) + 2 and len(groups[-1]) < most:
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _pad(members: Sequence[tuple[LoraWeights, list[int]]], batch: Rows) -> _PaddedTiles:
    longest = max(len(tokens) for _, tokens in members)
    padded = [tokens + [tokens[0]] * (longest - len(tokens)) for _, tokens in members]
    held = sorted(
        (token, group * longest + place)
        for group, (_, tokens) in enumerate(members)
        for place, token in enumerate(tokens)
    )
    tokens = [token for token, _ in held]
    places = [place for _, place in held]
    neighbours = tokens[-1] - tokens[0] + 1 == len(tokens)
    device = batch.device
    return _PaddedTiles(
        weights=[weights for weights, _ in members],
        index_GT=torch.tensor(padded, device=device),
        places_M=torch.tensor(places, device=device),
        tokens_M=torch.tensor(tokens, device=device),
        stretch=slice(tokens[0], tokens[-1] + 1) if neighbours else None,
        dense=neighbours and places == list(range(len(members) * longest)),
        stacked=None if device.type == "cpu" else _stack_all([weights for weights, _ in members]),
    )


def _stack_all(weights: Sequence[LoraWeights]) -> dict[tuple[At, int], Tensor]:
    """Return every matrix of some adapters of one shape, (G, …), as views of one copy."""
    flat_GP = torch.stack([own.flat_P for own in weights])
    found: dict[tuple[At, int], Tensor] = {}
    start = 0
    for at, pair in weights[0].pairs.items():
        for number, matrix in enumerate(pair.matrices()):
            end = start + matrix.numel()
            found[at, number] = flat_GP[:, start:end].view(len(weights), *matrix.shape)
            start = end
    return found
