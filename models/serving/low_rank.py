"""LoRA for many customers in one batch: low-rank products on the side of the base's linear layers.

Each customer's tokens form a tile. A customer with many tokens takes two plain products per layer; those with few are
padded to a common length and multiplied together, one batched product for all of them. A batch of one customer
therefore costs what one merged model costs and the low-rank share, about 4 % of the multiplications at rank 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.backbones.packed import PackedBatch
from models.serving.adapters import Adapter, LoraWeights, Place

# From so many tokens on a customer's own product is as fast per token as a batched one, and needs no padding.
ALONE_TOKENS = 96


@dataclass(slots=True)
class _Alone:
    weights: LoraWeights
    index_N: Tensor | None  # its tokens; None: the whole batch


@dataclass(slots=True)
class _Together:
    weights: Sequence[LoraWeights]
    index_GT: Tensor  # token of each place, places of the padding point at token 0
    places_M: Tensor  # flat places that hold a token
    tokens_M: Tensor  # and which token
    stacked: dict[tuple[int, str], tuple[Tensor, Tensor]]


class LowRankPlan:
    """Implements `backbones.packed.LowRank` for one batch."""

    def __init__(self, alone: Sequence[_Alone], together: Sequence[_Together]) -> None:
        self._alone = alone
        self._together = together
        touched: set[tuple[int, str]] = set()
        for one in alone:
            touched.update(one.weights.matrices)
        for group in together:
            for weights in group.weights:
                touched.update(weights.matrices)
        self._touched = touched

    def touches(self, block: int, module: str) -> bool:
        """Whether any adapter changes this module."""
        return (block, module) in self._touched

    def add(self, block: int, module: str, x_NI: Tensor, y_NO: Tensor) -> None:
        """Add every adapter's product to its tokens, in place."""
        at = (block, module)
        if at not in self._touched:
            return
        for one in self._alone:
            pair = one.weights.matrices.get(at)
            if pair is None:
                continue
            down_IR, up_RO = pair
            if one.index_N is None:
                y_NO.addmm_(x_NI @ down_IR, up_RO)
            else:
                y_NO.index_add_(0, one.index_N, (x_NI[one.index_N] @ down_IR) @ up_RO)
        for group in self._together:
            if at not in group.stacked:
                continue
            down_GIR, up_GRO = group.stacked[at]
            groups, longest = group.index_GT.shape
            x_GTI = x_NI[group.index_GT.view(-1)].view(groups, longest, -1)
            delta_GTO = torch.bmm(torch.bmm(x_GTI, down_GIR), up_GRO)
            flat = delta_GTO.view(groups * longest, -1)
            y_NO.index_add_(0, group.tokens_M, flat[group.places_M])


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
    alone: list[_Alone] = []
    small: dict[tuple[tuple[Place, ...], int], list[tuple[LoraWeights, list[int]]]] = {}
    for key, rows in rows_of.items():
        weights = weights_of[key]
        if len(rows) == batch.rows:
            alone.append(_Alone(weights, None))
            continue
        tokens = [token for row in rows for token in batch.span(row)]
        if len(tokens) >= ALONE_TOKENS:
            alone.append(_Alone(weights, torch.tensor(tokens, device=batch.ids_N.device)))
        else:
            # Of one shape and of a similar length, or padding would cost more than it saves.
            small.setdefault((weights.layout, (len(tokens) - 1) // 8), []).append((weights, tokens))
    return LowRankPlan(alone, [_stack(members, batch) for members in small.values()])


def _stack(members: Sequence[tuple[LoraWeights, list[int]]], batch: PackedBatch) -> _Together:
    longest = max(len(tokens) for _, tokens in members)
    device = batch.ids_N.device
    padded = [tokens + [tokens[0]] * (longest - len(tokens)) for _, tokens in members]
    places = [group * longest + place for group, (_, tokens) in enumerate(members) for place in range(len(tokens))]
    weights = [member for member, _ in members]
    # One copy for all layers: each adapter keeps its matrices in one stretch of memory.
    flat_GP = torch.stack([member.flat_P for member in weights])
    stacked = {}
    for place in weights[0].layout:
        down_GIR = flat_GP[:, place.down_at : place.up_at].view(len(weights), place.inputs, place.rank)
        up_end = place.up_at + place.rank * place.outputs
        up_GRO = flat_GP[:, place.up_at : up_end].view(len(weights), place.rank, place.outputs)
        stacked[place.block, place.module] = (down_GIR, up_GRO)
    return _Together(
        weights=weights,
        index_GT=torch.tensor(padded, device=device),
        places_M=torch.tensor(places, device=device),
        tokens_M=torch.tensor([token for _, tokens in members for token in tokens], device=device),
        stacked=stacked,
    )
