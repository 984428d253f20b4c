"""LoRA for many customers in one batch: low-rank products on the side of the base's linear layers.

Each customer's tokens form a tile. A customer with many tokens takes plain products of its own; those with few are
padded to a common length and multiplied together, one batched product for all of them. Tiles of similar length go
together. Where they lie next to each other (rows are sorted by length, so they mostly do) the result is added to a
stretch of the batch, which is three times as fast as adding it token by token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.backbones.packed import PackedBatch
from models.serving.adapters import Adapter, LoraWeights, LowRankPair

# From so many tokens on a customer's own product is as fast per token as a batched one, and needs no padding.
ALONE_TOKENS = 96
# Tiles go together as long as the longest is no longer than this many times the shortest, and two tokens.
STRETCH = 1.3

At = tuple[int, str]


@dataclass(slots=True)
class _Alone:
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
class _Together:
    """G adapters of one shape on a padded tile of T tokens each."""

    weights: Sequence[LoraWeights]
    index_GT: Tensor  # token of each place; places of the padding repeat a token
    places_M: Tensor  # places that hold a token, in the order of the tokens
    tokens_M: Tensor  # and which tokens those are
    stretch: slice | None  # the tokens, if they are neighbours
    dense: bool  # neighbours, and no padding: the tiles are a view of the batch

    def add(self, at: At, x_NI: Tensor, y_NO: Tensor) -> None:
        pairs = [weights.pairs.get(at) for weights in self.weights]
        first = pairs[0]
        if first is None:  # all are of one shape
            return
        present: list[LowRankPair] = [pair for pair in pairs if pair is not None]
        groups, longest = self.index_GT.shape
        if self.dense and self.stretch is not None:
            x_GTI = x_NI[self.stretch].view(groups, longest, -1)
        else:
            x_GTI = x_NI.index_select(0, self.index_GT.view(-1)).view(groups, longest, -1)
        ranks_GTR = torch.bmm(x_GTI, torch.stack([pair.down_IR for pair in present]))
        for position, (ranks, outputs, _) in enumerate(first.ups):
            up_GRO = torch.stack([pair.ups[position][2] for pair in present])
            mine_GTR = ranks_GTR if len(first.ups) == 1 else ranks_GTR[:, :, ranks]
            delta_PO = torch.bmm(mine_GTR, up_GRO).view(groups * longest, -1)
            if self.stretch is None:
                y_NO[:, outputs].index_add_(0, self.tokens_M, delta_PO.index_select(0, self.places_M))
            elif self.dense:
                y_NO[self.stretch, outputs].add_(delta_PO)
            else:
                y_NO[self.stretch, outputs].add_(delta_PO.index_select(0, self.places_M))


class LowRankPlan:
    """Implements `backbones.packed.LowRank` for one batch."""

    def __init__(self, parts: Sequence[_Alone | _Together], touched: frozenset[At]) -> None:
        self._parts = parts
        self._touched = touched

    def touches(self, block: int, module: str) -> bool:
        """Whether any adapter changes this module."""
        return (block, module) in self._touched

    def add(self, block: int, module: str, x_NI: Tensor, y_NO: Tensor) -> None:
        """Add every adapter's product to its tokens, in place."""
        at = (block, module)
        if at in self._touched:
            for part in self._parts:
                part.add(at, x_NI, y_NO)


def plan_low_rank(adapters: Sequence[Adapter], batch: PackedBatch) -> LowRankPlan | None:
    """Who adds what in this batch; `adapters` are in packed order. None if nobody does."""
    rows_of: dict[int, list[int]] = {}
    weights_of: dict[int, LoraWeights] = {}
    for row, adapter in enumerate(adapters):
        if adapter.lora is not None:
            rows_of.setdefault(id(adapter.lora), []).append(row)
            weights_of[id(adapter.lora)] = adapter.lora
    if not rows_of:
        return None
    parts: list[_Alone | _Together] = []
    small: dict[tuple[object, ...], list[tuple[LoraWeights, list[int]]]] = {}
    for key, rows in rows_of.items():
        weights = weights_of[key]
        if len(rows) == batch.rows:
            parts.append(_Alone(weights, None))
            continue
        tokens = [token for row in rows for token in batch.span(row)]
        if len(tokens) >= ALONE_TOKENS:
            parts.append(_Alone(weights, torch.tensor(tokens, device=batch.ids_N.device)))
        else:
            small.setdefault(weights.shape, []).append((weights, tokens))
    for members in small.values():
        parts += [_stack(group, batch) for group in _by_length(members)]
    touched = frozenset(at for weights in weights_of.values() for at in weights.pairs)
    return LowRankPlan(parts, touched)


def _by_length(members: list[tuple[LoraWeights, list[int]]]) -> list[list[tuple[LoraWeights, list[int]]]]:
    members.sort(key=lambda member: (len(member[1]), member[1][0]))
    groups: list[list[tuple[LoraWeights, list[int]]]] = []
    for member in members:
        if groups and len(member[1]) <= STRETCH * len(groups[-1][0][1]) + 2:
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _stack(members: Sequence[tuple[LoraWeights, list[int]]], batch: PackedBatch) -> _Together:
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
    device = batch.ids_N.device
    return _Together(
        weights=[weights for weights, _ in members],
        index_GT=torch.tensor(padded, device=device),
        places_M=torch.tensor(places, device=device),
        tokens_M=torch.tensor(tokens, device=device),
        stretch=slice(tokens[0], tokens[-1] + 1) if neighbours else None,
        dense=neighbours and places == list(range(len(members) * longest)),
    )
