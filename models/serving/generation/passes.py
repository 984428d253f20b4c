"""One pass through the base for the new tokens of many sequences, each with its own version's weights.

On a processor a sequence gets the same numbers, bit by bit, alone and among others. The linear layers are oneDNN's,
whose result for a row does not depend on how many rows there are, if there are two or more; attention and low-rank
products are computed block by block of each sequence, however many of its blocks a pass takes. A pass is padded to a
multiple of four rows, for which four take less time than one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.backbones.decoder import Decoder
from models.backbones.linear import Linear, linear
from models.backbones.writing import DecoderBackbone
from models.serving.generation.adapters import WritingAdapter
from models.serving.generation.attention import NewTokens, attend_to
from models.serving.generation.blocks import BLOCK_TOKENS
from models.serving.generation.memory import KeyValueMemory
from models.serving.kernels.low_rank import LowRankPlan, plan_low_rank

Floats = NDArray[np.float32]

# Rows of a pass are a multiple of this, so that there are few sizes: oneDNN compiles a kernel for each.
GRAIN, LARGE_ROWS, LARGE_GRAIN = 4, 32, 16


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens of one sequence to be computed; `blocks` hold those before them and have room for these."""

    adapter: WritingAdapter
    tokens: Sequence[int]
    start: int
    blocks: Sequence[int]
    scored: bool  # whether the scores of the next token are asked for


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the tokens of each stretch lie in a pass: what low-rank products need to know."""

    spans: Sequence[range]
    device: torch.device

    @property
    def rows(self) -> int:
        """Number of stretches."""
        return len(self.spans)

    def span(self, row: int) -> range:
        """Return the tokens of a stretch."""
        return self.spans[row]


def pack(layer: nn.Linear) -> Linear:
    """Return one layer, laid out."""
    return linear(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


def _layers(network: Decoder) -> list[nn.Linear]:
    return [module for module in [*network.blocks.modules(), network.head] if isinstance(module, nn.Linear)]


class Writer:
    """Computes passes on one base and one memory."""

    def __init__(self, backbone: DecoderBackbone, memory: KeyValueMemory) -> None:
        self._backbone = backbone
        self._memory = memory
        self.linears: dict[int, Linear] = {id(layer): pack(layer) for layer in _layers(backbone.network)}
        config = backbone.config
        self._ratio = config.heads // config.key_value_heads

    @torch.inference_mode()
    def compute(self, stretches: Sequence[Stretch]) -> list[Floats | None]:
        """Return the scores (V,) of the next token behind each stretch that asks for them."""
        by_network: dict[int, list[int]] = {}
        for at, stretch in enumerate(stretches):
            by_network.setdefault(id(stretch.adapter.network), []).append(at)
        scores: list[Floats | None] = [None] * len(stretches)
        for group in by_network.values():
            # Tokens of one adapter are neighbours: their products are one.
            group.sort(key=lambda at: (stretches[at].adapter.lora is None, id(stretches[at].adapter.lora)))
            for at, found in zip(group, self._compute([stretches[at] for at in group]), strict=True):
                scores[at] = found
        return scores

    def _compute(self, stretches: Sequence[Stretch]) -> list[Floats | None]:
        device, own = self._backbone.device, stretches[0].adapter.network
        network = self._backbone.network if own is None else own.decoder
        linears = self.linears if own is None else own.linears
        ends = np.cumsum([len(stretch.tokens) for stretch in stretches]).tolist()
        pieces = [
            piece
            for end, stretch in zip(ends, stretches, strict=True)
            for piece in _by_block(stretch, end - len(stretch.tokens))
        ]
        padding = _padding(ends[-1])
        tokens = [token for stretch in stretches for token in stretch.tokens] + [0] * padding
        places = np.concatenate(
            [np.arange(stretch.start, stretch.start + len(stretch.tokens)) for stretch in stretches]
            + [np.zeros(padding, dtype=np.int64)]
        )
        attend = attend_to(self._memory, [new for _, new in pieces], ratio=self._ratio, device=device)
        spans = [range(new.rows.start, new.rows.stop) for _, new in pieces]
        plan = plan_low_rank([adapter for adapter, _ in pieces], _Rows(spans, device), apart=True)
        hidden_ND = network.run(
            network.embed(torch.tensor(tokens, device=device)),
            torch.from_numpy(places).to(device),
            attend,
            _Project(linears, plan),
        )
        return self._score(network, linears, hidden_ND, stretches, ends)

    def _score(
        self,
        network: Decoder,
        linears: Mapping[int, Linear],
        hidden_ND: Tensor,
        stretches: Sequence[Stretch],
        ends: Sequence[int],
    ) -> list[Floats | None]:
        scored = [end - 1 for end, stretch in zip(ends, stretches, strict=True) if stretch.scored]
        if not scored:
            return [None] * len(stretches)
        rows = scored + [scored[0]] * _padding(len(scored))
        last_SD = network.norm(hidden_ND[torch.tensor(rows, device=hidden_ND.device)])
        logits_SV = linears[id(network.head)].plain(last_SD)[: len(scored)].float().cpu().numpy()
        found = iter(logits_SV)
        return [next(found) if stretch.scored else None for stretch in stretches]


class _Project:
    """Implements `backbones.decoder.Project`: the base's layer, and every version's low-rank product beside it.

    On a processor those products are fp32, whatever the base is: by address, and their rounding does not depend on
    which adapters share a pass.
    """

    def __init__(self, linears: Mapping[int, Linear], plan: LowRankPlan | None) -> None:
        self._linears = linears
        self._plan = plan
        self._narrow: Tensor | None = None  # the last input, and the same in fp32: three layers have it in common
        self._wide = torch.empty(0)

    def __call__(self, block: int, name: str, layer: nn.Linear, input_NI: Tensor) -> Tensor:
        output_NO = self._linears[id(layer)].plain(input_NI)
        plan = self._plan
        if plan is None or not plan.touches(block, name):
            return output_NO
        if input_NI.dtype is torch.float32 or input_NI.device.type != "cpu":
            plan.add(block, name, input_NI, output_NO)
            return output_NO
        if self._narrow is not input_NI:
            self._narrow, self._wide = input_NI, input_NI.float()
        wide_NO = output_NO.float()
        plan.add(block, name, self._wide, wide_NO)
        return wide_NO.to(output_NO.dtype)


def _by_block(stretch: Stretch, row: int) -> Iterator[tuple[WritingAdapter, NewTokens]]:
    """Yield the tokens of a stretch, which begin with this row of the pass, cut where blocks begin."""
    at, stop = stretch.start, stretch.start + len(stretch.tokens)
    while at < stop:
        until = min(stop, (at // BLOCK_TOKENS + 1) * BLOCK_TOKENS)
        first = row + at - stretch.start
        yield stretch.adapter, NewTokens(slice(first, first + until - at), at, stretch.blocks)
        at = until


def _padding(rows: int) -> int:
    return -rows % (GRAIN if rows <= LARGE_ROWS else LARGE_GRAIN)
