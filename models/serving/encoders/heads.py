"""Each customer's own head on the shared features, for all rows of a batch at once.

Rows come sorted by adapter within each choice of features. On a processor a head's product runs on its rows where they
lie: no head is copied, so a batch of one customer and a batch of as many customers as rows read the same bytes once. On
a GPU every product would be a kernel: there the heads are gathered. All logits land in one padded matrix, so that
link functions cost one call each whatever the heads' class counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.learning.heads import ngrams
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.input_modes import Piece, Vectors
from models.serving.encoders.requests import NOTHING, Floats

# From so many heads in a pass a GPU gathers them; so many factors at a time (4 bytes each, twice).
_GATHERED_HEADS = 4
_GATHERED_PRODUCTS = 2**26


def apply_heads(vectors: Vectors, adapters: Sequence[Adapter]) -> list[Floats]:
    """Return one output per row, NOTHING for pieces of rows; row b of `vectors` belongs to `adapters[b]`.

    A row's output has as many entries as its adapter's head, and is a table (W, K) where words are what is predicted;
    without a head it is the L2-normalised feature.
    """
    outputs: list[Floats] = [NOTHING] * len(adapters)
    groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
    for row, adapter in enumerate(adapters):
        if isinstance(vectors.rows[row], Piece):
            continue
        groups.setdefault((adapter.features, id(adapter.link)), []).append(row)
    for (names, _), rows in groups.items():
        link = adapters[rows[0]].link
        rows.sort(key=lambda row: id(adapters[row]))
        features_UF, counts = vectors.take(names, rows)
        if link is None:
            found = torch.nn.functional.normalize(features_UF, dim=1).cpu().numpy()
        else:
            owners = [adapters[row] for row in rows]
            widest = max(owner.outputs for owner in owners)  # also where no row has a word
            if counts is not None:
                owners = [owner for owner, count in zip(owners, counts, strict=True) for _ in range(count)]
            logits_UK = _multiply(features_UF, owners, widest)
            _add_ngrams(logits_UK, [vectors.rows[row] for row in rows], [adapters[row] for row in rows])
            found = link.mean(logits_UK).cpu().numpy()  # an empty place is -inf: zero after softmax and sigmoid
        if counts is not None:
            parts = np.split(found, np.cumsum(counts)[:-1])
            for row, part in zip(rows, parts, strict=True):
                outputs[row] = part[:, : adapters[row].outputs]
            continue
        for at, row in enumerate(rows):
            outputs[row] = found[at, : adapters[row].outputs]
    return outputs


def _multiply(features_BF: Tensor, adapters: Sequence[Adapter], widest: int) -> Tensor:
    """Return logits, padded to `widest`; `adapters` are sorted so that equal ones are neighbours."""
    logits_BK = features_BF.new_full((len(adapters), widest), -torch.inf)
    owners = [(adapter, len(list(rows))) for adapter, rows in groupby(adapters)]
    if features_BF.device.type != "cpu" and len(owners) >= _GATHERED_HEADS:
        _multiply_gathered(features_BF, owners, logits_BK)
        return logits_BK
    start = 0
    for adapter, rows in owners:
        weight_KF, bias_K = _head_of(adapter)
        end = start + rows
        logits_BK[start:end, : adapter.outputs] = torch.addmm(bias_K, features_BF[start:end], weight_KF.T)
        start = end
    return logits_BK


def _multiply_gathered(features_BF: Tensor, owners: Sequence[tuple[Adapter, int]], logits_BK: Tensor) -> None:
    """Fill in the logits by a few kernels, however many heads: each logit is the product of two gathered vectors.

    `owners` are the adapters and how many rows each has.
    """
    heads = [_head_of(adapter) for adapter, _ in owners]
    weight_SF, bias_S = torch.cat([weight_KF for weight_KF, _ in heads]), torch.cat([bias_K for _, bias_K in heads])
    classes_G = np.array([len(bias_K) for _, bias_K in heads])
    counts_G = np.array([rows for _, rows in owners])
    classes_B = np.repeat(classes_G, counts_G)
    row_P = np.repeat(np.arange(len(classes_B)), classes_B)
    column_P = np.arange(len(row_P)) - np.repeat(np.cumsum(classes_B) - classes_B, classes_B)
    class_P = column_P + np.repeat(np.repeat(np.cumsum(classes_G) - classes_G, counts_G), classes_B)
    at_3P = torch.from_numpy(np.stack([row_P, column_P, class_P])).to(features_BF.device)
    most = max(1, _GATHERED_PRODUCTS // features_BF.shape[1])
    for row, column, of_class in (part.unbind(0) for part in torch.split(at_3P, most, dim=1)):
        logits_BK[row, column] = torch.linalg.vecdot(features_BF[row], weight_SF[of_class]) + bias_S[of_class]


def _head_of(adapter: Adapter) -> tuple[Tensor, Tensor]:
    if adapter.weight_KF is None or adapter.bias_K is None:
        raise ValueError("an adapter without a head among those that have one")
    return adapter.weight_KF, adapter.bias_K


def _add_ngrams(logits_BK: Tensor, rows: Sequence[Any], adapters: Sequence[Adapter]) -> None:
    """Add the logits of n-gram heads in place, where a row's adapter has one; equal adapters are neighbours."""
    for adapter, members in groupby(range(len(rows)), key=adapters.__getitem__):
        if adapter.ngram_head is None:
            continue
        at = list(members)
        found_BK = adapter.ngram_head.logits(ngrams.join([rows[row].ngrams for row in at]))
        logits_BK[at[0] : at[-1] + 1, : adapter.outputs] += torch.from_numpy(found_BK).to(logits_BK.device)
