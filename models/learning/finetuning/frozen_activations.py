"""The activations of frozen blocks are the same in every epoch: for pictures and sounds they are computed once.

The decoding is saved with them. Texts are left alone: their hidden states depend on how they are padded, and cost
little beside what trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones import stacks
from models.backbones.backbone import TokenizedInput
from models.backbones.loading import Backbone
from models.backbones.parallel import in_parallel
from models.backbones.stacks import MediaBatch
from models.learning.contract.errors import Stopped
from models.learning.finetuning.network import Network

# Hidden states in memory; beyond that they are computed again in every epoch.
_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class KeptRow:
    """One row below the first block that trains."""

    below: MediaBatch  # the row alone; its values are the hidden states of its entries
    pooled: dict[tuple[str, int], Tensor]  # (1, D) by feature
    cost: int

    def __len__(self) -> int:
        return self.cost


def keep(
    network: Network, rows: Sequence[TokenizedInput], backbone: Backbone, *, stop: Callable[[], bool]
) -> Sequence[TokenizedInput]:
    """Return the rows below the first block that trains, where that saves work and fits into memory. Raises Stopped."""
    if backbone.entry.modality == "text" or network.first_block == 0 or network.embeddings_train or not rows:
        return rows
    kept: dict[int, KeptRow] = {}

    def fill(indices: NDArray[np.int64]) -> int:
        if stop():
            raise Stopped
        batch = backbone.collate([rows[index] for index in indices])
        with torch.no_grad():
            hidden, pooled = network.begin(batch)
        for at, index in enumerate(indices):
            vectors = {name: values[at : at + 1].clone() for name, values in pooled.items()}
            kept[int(index)] = KeptRow(batch.row(at, hidden), vectors, len(rows[index]))
        return hidden.nbytes

    used = 0
    network.eval()
    for used_now in in_parallel(fill, backbone.plan([len(row) for row in rows]), threads=backbone.threads):
        used += used_now
        if used > _BYTES:
            return rows
    return [kept[index] for index in range(len(rows))]


def standard_features(network: Network, rows: Sequence[TokenizedInput], backbone: Backbone) -> Tensor:
    """Return the standardised features, (B, F), of rows as they are, or as `keep` left them."""
    kept = [row for row in rows if isinstance(row, KeptRow)]
    if not kept:
        batch = backbone.collate(rows)
        return network.standardise(batch, *network.begin(batch))
    below = stacks.join([row.below for row in kept])
    pooled = {name: torch.cat([row.pooled[name] for row in kept]) for name in kept[0].pooled}
    return network.standardise(below, below.values, pooled)
