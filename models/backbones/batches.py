"""Encoding batch by batch, for every kind of base."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones.backbone import Backbone, Floats
from models.backbones.errors import Stopped
from models.backbones.parallel import in_parallel
from models.datasets.windowing import Windowing


class RowEncoding:
    """Encodes inputs or rows, at once or step by step, by the base's `frozen_features`."""

    windowing: Windowing | None = None  # None: what exceeds the base's longest input is not read

    def with_windowing(self, windowing: Windowing | None) -> Any:  # noqa: ARG002
        """Return the base itself: only texts have windows."""
        return self

    def encode(
        self: Backbone,
        inputs: Sequence[Any],
        names: Sequence[str],
        *,
        stop: Callable[[], bool] | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Floats:
        """Return features_NF float32 in the order of the inputs (or of their units), the named features side by side.

        `stop` is called before every batch (raises Stopped), `progress` with the share done, 0 to 1.
        """
        return _drain(self.encode_steps(self.tokenize(inputs), names, stop=stop), progress)

    def encode_tokens(
        self: Backbone, rows: Sequence[Any], names: Sequence[str], *, stop: Callable[[], bool] | None = None
    ) -> Floats:
        """Return the features of rows that are tokenised already, as `encode` does of inputs."""
        return _drain(self.encode_steps(rows, names, stop=stop))

    def encode_steps(
        self: Backbone, rows: Sequence[Any], names: Sequence[str], *, stop: Callable[[], bool] | None = None
    ) -> Generator[float, None, Floats]:
        """Yield the share done after every batch of rows; return the features, as `encode` does."""
        counts_N = self.units(rows)
        ends_N = np.cumsum(np.ones(len(rows), dtype=np.int64) if counts_N is None else counts_N)
        begins_N = np.concatenate([[0], ends_N])
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        total, done = max(int(lengths.sum()), 1), 0
        features_NF = np.empty((begins_N[-1], sum(self.feature_width(name) for name in names)), dtype=np.float32)

        def fill(indices: NDArray[np.int64]) -> int:
            if stop is not None and stop():
                raise Stopped
            found = self.frozen_features([rows[index] for index in indices], names)
            values = torch.cat([found[name] for name in names], dim=1).cpu().numpy()
            if counts_N is None:
                features_NF[indices] = values
            else:
                features_NF[np.concatenate([np.arange(begins_N[row], ends_N[row]) for row in indices])] = values
            return int(lengths[indices].sum())

        for share in in_parallel(fill, self.plan(lengths), threads=self.threads):
            done += share
            yield done / total
        return features_NF


def _drain(steps: Generator[float, None, Floats], progress: Callable[[float], None] | None = None) -> Floats:
    """Run the generator to its end; `progress` is called with the share done."""
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            features_NF: Floats = end.value
            return features_NF
        if progress is not None:
            progress(share)
