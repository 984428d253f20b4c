"""One pass through the base for rows of many customers: shared blocks together, own blocks apart, heads at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones import feature_names
from models.backbones.backbone import Backbone
from models.backbones.packed import Overrides, PackedEncoder
from models.backbones.packed_batch import PackedBatch, pool, select
from models.backbones.text import TextBackbone
from models.backbones.windows import TokenIds
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.heads import apply_heads
from models.serving.encoders.input_modes import Piece, Vectors, computed, hidden_states, parts_of
from models.serving.encoders.requests import NOTHING, Floats
from models.serving.kernels.low_rank import plan_low_rank


@torch.inference_mode()
def answer(backbone: Backbone, inputs: Sequence[Any], adapters: Sequence[Adapter]) -> list[Floats | Vectors]:
    """Return the outputs of rows, in their order; tokenised row b is for `adapters[b]`. Of a piece, its vectors.

    Rows of customers with own top blocks run with all others up to their first own block. A row whose adapter brings
    a whole base of its own takes its own pass.
    """
    by_network: dict[int, list[int]] = {}
    for row, adapter in enumerate(adapters):
        by_network.setdefault(id(adapter.encoder or adapter.network), []).append(row)
    outputs: list[Floats | Vectors] = [NOTHING] * len(adapters)
    for rows in by_network.values():
        chosen = [adapters[row] for row in rows]
        vectors = _vectors(backbone, [inputs[row] for row in rows], chosen)
        for at, (row, output) in enumerate(zip(rows, apply_heads(vectors, chosen), strict=True)):
            is_piece = isinstance(inputs[row], Piece)
            outputs[row] = vectors.of_piece(adapters[row].features, at) if is_piece else output
    return outputs


def packed_of(backbone: Backbone) -> PackedEncoder | None:
    """Return the fast path of a base, None if it has none."""
    packed: PackedEncoder | None = getattr(backbone, "packed", None)
    return packed


def _vectors(backbone: Backbone, rows: Sequence[Any], adapters: Sequence[Adapter]) -> Vectors:
    """Return the features of rows that share a base: the frozen one, or one adapter's own."""
    by_row = [parts_of(row) for row in rows]
    parts = [part for own in by_row for part in own]
    owners = [adapter for adapter, own in zip(adapters, by_row, strict=True) for _ in own]
    firsts = np.cumsum([0, *map(len, by_row)])[:-1].tolist()
    vectors = Vectors(rows, firsts, parts)
    encoder = adapters[0].encoder or packed_of(backbone)
    if encoder is not None:
        _run_packed(encoder, parts, owners, vectors)
    else:
        _run_padded(backbone, adapters[0].network, parts, owners, vectors)
    return vectors


def _names(adapters: Sequence[Adapter]) -> list[str]:
    """Return what has to be pooled for them, in a fixed order."""
    return sorted({computed(name) for adapter in set(adapters) for name in adapter.features})


def _run_padded(
    backbone: Backbone, network: Any, parts: Sequence[Any], adapters: Sequence[Adapter], vectors: Vectors
) -> None:
    """Run a base without the fast path, or an adapter's own network instead of it.

    Texts leave in batches of similar length: padded to one of thousands of tokens every short one would cost as much.
    """
    names = _names(adapters)
    plan: list[NDArray[np.int64]] = [np.arange(len(parts))]
    if isinstance(backbone, TextBackbone):
        plan = backbone.plan([len(part) for part in parts])
    batches = [_padded(backbone, network, [parts[at] for at in chosen], names) for chosen in plan]
    place_P = np.argsort(np.concatenate(plan))
    for name in batches[0].pooled:
        pooled_PD = torch.cat([batch.pooled[name] for batch in batches])
        vectors.pooled[name] = pooled_PD[torch.from_numpy(place_P).to(pooled_PD.device)]
    tokens = 0
    for batch in batches:
        batch.starts = batch.starts + tokens
        tokens += max((len(hidden_ND) for hidden_ND in batch.hidden.values()), default=0)
    for name in batches[0].hidden:
        vectors.hidden[name] = torch.cat([batch.hidden[name] for batch in batches])
        vectors.starts = np.concatenate([batch.starts for batch in batches])[place_P]


def _padded(backbone: Backbone, network: Any, parts: Sequence[Any], names: Sequence[str]) -> Vectors:
    """Return the vectors of parts in one padded batch."""
    vectors = Vectors(parts, range(len(parts)), parts)
    tagged = [name for name in names if feature_names.parse(name).per_word]
    if network is None and not tagged:
        vectors.pooled = backbone.frozen_features(parts, names)
        return vectors
    if network is None:
        if not isinstance(backbone, TextBackbone):
            raise TypeError(f"words are read by a text base, not by {type(backbone).__name__}")
        network = backbone.network
    wanted = {name: backbone.parse_feature(name) for name in names if name not in tagged}
    depths = {depth for _, depth in wanted.values()} | {feature_names.parse(name).depth for name in tagged}
    batch = backbone.collate(parts)
    _, tapped = network.run(batch, network.embed(batch), 0, max(depths), taps=depths)
    vectors.pooled = {name: network.pool(tapped[depth], batch, kind) for name, (kind, depth) in wanted.items()}
    for name in tagged:
        hidden_BTD = tapped[feature_names.parse(name).depth]
        vectors.hidden[name] = hidden_BTD.flatten(0, 1)
        vectors.starts = np.arange(hidden_BTD.shape[0]) * hidden_BTD.shape[1]
    return vectors


def _run_packed(
    encoder: PackedEncoder, parts: Sequence[TokenIds], adapters: Sequence[Adapter], vectors: Vectors
) -> None:
    """Fill tables of all that any part's adapter asks for; only the rows whose adapter asks are filled."""
    batch = encoder.pack(parts)
    packed = [adapters[row] for row in batch.order]  # from here on in packed order
    names = _names(adapters)
    wanted: dict[int, list[tuple[str, str]]] = {}
    for name in names:
        feature = feature_names.parse(name)
        if feature.per_word:
            wanted.setdefault(feature.depth, [])
            vectors.hidden[name] = torch.empty(batch.tokens, encoder.width, dtype=encoder.dtype, device=encoder.device)
            continue
        wanted.setdefault(feature.depth, []).append((feature.kind, name))
        vectors.pooled[name] = torch.empty(batch.rows, encoder.width, device=encoder.device)
    starts = np.empty(batch.rows, dtype=np.int64)
    starts[list(batch.order)] = batch.offsets
    vectors.starts = starts
    taps = frozenset(wanted)
    stop = max(taps)

    def keep(tapped: dict[int, Tensor], part: PackedBatch, rows: Sequence[int] | None) -> None:
        for depth, hidden_ND in tapped.items():
            for kind, name in wanted[depth]:
                pooled_BD = pool(hidden_ND, part, kind)
                if rows is None:
                    vectors.pooled[name] = pooled_BD
                else:
                    vectors.pooled[name][[batch.order[row] for row in rows]] = pooled_BD
            if (name := hidden_states(depth)) in vectors.hidden:
                if rows is None:
                    vectors.hidden[name] = hidden_ND
                else:
                    tokens = [token for row in rows for token in batch.span(row)]
                    vectors.hidden[name][tokens] = hidden_ND[: part.used]

    hidden_ND, part, rows, depth = encoder.embed(batch), batch, list(range(batch.rows)), 0
    whole = True
    while rows:
        split = min((packed[row].first_own_block for row in rows), default=stop)
        end = min(split, stop)
        low_rank = plan_low_rank([packed[row] for row in rows], part)
        hidden_ND, tapped = encoder.run(part, hidden_ND, depth, end, taps=taps, overrides=Overrides(low_rank=low_rank))
        keep(tapped, part, None if whole else rows)
        if end >= stop:
            break
        for adapter in {id(packed[row]): packed[row] for row in rows if packed[row].first_own_block == end}.values():
            own = [at for at, row in enumerate(rows) if packed[row] is adapter]
            own_hidden_ND, own_part = select(hidden_ND, part, own)
            _, tapped = encoder.run(
                own_part, own_hidden_ND, end, stop, taps=taps, overrides=Overrides(blocks=adapter.blocks)
            )
            keep(tapped, own_part, [rows[at] for at in own])
        rest = [at for at, row in enumerate(rows) if packed[row].first_own_block != end]
        if not rest:
            break
        hidden_ND, part = select(hidden_ND, part, rest)
        rows, depth, whole = [rows[at] for at in rest], end, False
