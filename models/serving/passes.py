"""One pass through the base for the rows of everybody: shared blocks together, own blocks apart, heads at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from models.backbones.backbone import Backbone
from models.backbones.encoder import parse_feature
from models.backbones.packed import PackedBatch, PackedEncoder, pool, select
from models.backbones.text import TokenIds
from models.serving.adapters import Adapter
from models.serving.heads import apply_heads
from models.serving.low_rank import plan_low_rank
from models.serving.requests import NOTHING, Floats


@torch.inference_mode()
def answer(backbone: Backbone, inputs: Sequence[Any], adapters: Sequence[Adapter]) -> list[Floats]:
    """The outputs of rows, in their order; tokenised row b is for `adapters[b]`.

    Rows of customers with own top blocks run with everybody up to their first own block. A row whose adapter brings
    a whole base of its own takes its own pass.
    """
    by_trunk: dict[int, list[int]] = {}
    for row, adapter in enumerate(adapters):
        by_trunk.setdefault(id(adapter.encoder or adapter.network), []).append(row)
    outputs: list[Floats] = [NOTHING] * len(adapters)
    for rows in by_trunk.values():
        chosen = [adapters[row] for row in rows]
        tables = _tables(backbone, [inputs[row] for row in rows], chosen)
        for row, output in zip(rows, apply_heads(tables, chosen), strict=True):
            outputs[row] = output
    return outputs


def packed_of(backbone: Backbone) -> PackedEncoder | None:
    """The fast path of a base, if it has one."""
    packed: PackedEncoder | None = getattr(backbone, "packed", None)
    return packed


def _tables(backbone: Backbone, inputs: Sequence[Any], adapters: Sequence[Adapter]) -> dict[str, Tensor]:
    """Features of rows that share a base: everybody's, or one adapter's own."""
    encoder = adapters[0].encoder or packed_of(backbone)
    if encoder is not None:
        return _features(encoder, inputs, adapters)
    names = sorted({name for adapter in set(adapters) for name in adapter.features})
    network = adapters[0].network
    if network is None:
        return backbone.frozen_features(inputs, names)
    wanted = {name: backbone.parse_feature(name) for name in names}
    depths = {depth for _, depth in wanted.values()}
    batch = backbone.collate(inputs)
    _, tapped = network.run(batch, network.embed(batch), 0, max(depths), taps=depths)
    return {name: network.pool(tapped[depth], batch, kind) for name, (kind, depth) in wanted.items()}


def _features(encoder: PackedEncoder, token_ids: Sequence[TokenIds], adapters: Sequence[Adapter]) -> dict[str, Tensor]:
    """Tables BD of every feature that any of the rows asks for; only the rows that asked are filled."""
    batch = encoder.pack(token_ids)
    packed = [adapters[row] for row in batch.order]  # from here on in packed order
    names = sorted({name for adapter in set(adapters) for name in adapter.features})
    wanted: dict[int, list[tuple[str, str]]] = {}
    for name in names:
        kind, depth = parse_feature(name)
        wanted.setdefault(depth, []).append((kind, name))
    tables = {name: torch.empty(batch.rows, encoder.width, device=encoder.device) for name in names}
    taps = frozenset(wanted)
    stop = max(taps)

    def keep(tapped: dict[int, Tensor], part: PackedBatch, rows: Sequence[int] | None) -> None:
        for depth, hidden_ND in tapped.items():
            for kind, name in wanted[depth]:
                pooled_BD = pool(hidden_ND, part, kind)
                if rows is None:
                    tables[name] = pooled_BD
                else:
                    tables[name][[batch.order[row] for row in rows]] = pooled_BD

    hidden_ND, part, rows, depth = encoder.embed(batch), batch, list(range(batch.rows)), 0
    whole = True
    while rows:
        split = min((packed[row].first_own_block for row in rows), default=stop)
        end = min(split, stop)
        low_rank = plan_low_rank([packed[row] for row in rows], part)
        hidden_ND, tapped = encoder.run(part, hidden_ND, depth, end, taps=taps, low_rank=low_rank)
        keep(tapped, part, None if whole else rows)
        if end >= stop:
            break
        for adapter in {id(packed[row]): packed[row] for row in rows if packed[row].first_own_block == end}.values():
            own = [at for at, row in enumerate(rows) if packed[row] is adapter]
            own_hidden_ND, own_part = select(hidden_ND, part, own)
            _, tapped = encoder.run(own_part, own_hidden_ND, end, stop, taps=taps, blocks=adapter.blocks)
            keep(tapped, own_part, [rows[at] for at in own])
        rest = [at for at, row in enumerate(rows) if packed[row].first_own_block != end]
        if not rest:
            break
        hidden_ND, part = select(hidden_ND, part, rest)
        rows, depth, whole = [rows[at] for at in rest], end, False
    return tables
