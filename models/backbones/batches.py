"""Rows through a base, batch by batch: the walk that every kind of reading shares."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones.backbone import Backbone, Floats
from models.backbones.errors import Stopped
from models.backbones.parallel import in_parallel


def encode_rows(
    backbone: Backbone,
    rows: Sequence[Any],
    names: Sequence[str],
    *,
    stop: Callable[[], bool] | None = None,
) -> Generator[float, None, Floats]:
    """features_NF of rows (or of their units) by `frozen_features`; yields the share done. Raises Stopped."""
    counts_N = backbone.units(rows)
    ends_N = np.cumsum(np.ones(len(rows), dtype=np.int64) if counts_N is None else counts_N)
    begins_N = np.concatenate([[0], ends_N])
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    total, done = max(int(lengths.sum()), 1), 0
    features_NF = np.empty((begins_N[-1], sum(backbone.feature_width(name) for name in names)), dtype=np.float32)

    def fill(indices: NDArray[np.int64]) -> int:
        if stop is not None and stop():
            raise Stopped
        found = backbone.frozen_features([rows[index] for index in indices], names)
        values = torch.cat([found[name] for name in names], dim=1).cpu().numpy()
        if counts_N is None:
            features_NF[indices] = values
        else:
            features_NF[np.concatenate([np.arange(begins_N[row], ends_N[row]) for row in indices])] = values
        return int(lengths[indices].sum())

    for tokens in in_parallel(fill, backbone.plan(lengths), threads=backbone.threads):
        done += tokens
        yield done / total
    return features_NF


def drain(steps: Generator[float, None, Floats], progress: Callable[[float], None] | None = None) -> Floats:
    """Run the generator to its end; `progress` hears the share done."""
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            features_NF: Floats = end.value
            return features_NF
        if progress is not None:
            progress(share)
