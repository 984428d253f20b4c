"""An input whose pieces leave in several passes: what was computed of each is kept until all of them are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from models.serving.encoders.input_modes import Vectors


@dataclass(slots=True)
class LongInput:
    """An input whose pieces leave one by one, and what was computed of them so far."""

    row: Any
    count: int
    computed: dict[int, Vectors] = field(default_factory=dict)  # by the number of the piece

    def keep(self, number: int, vectors: Vectors) -> bool:
        """Keep what was computed of a piece, for the first time or again; return whether all are there."""
        self.computed[number] = vectors
        return len(self.computed) == self.count

    def joined(self) -> Vectors:
        """Return what was computed of all pieces as if they had left together."""
        vectors = [self.computed[number] for number in range(self.count)]
        parts = [part for each in vectors for part in each.parts]
        whole = Vectors([self.row], [0], parts)
        whole.pooled = {name: torch.cat([each.pooled[name] for each in vectors]) for name in vectors[0].pooled}
        whole.hidden = {name: torch.cat([each.hidden[name] for each in vectors]) for name in vectors[0].hidden}
        whole.starts = np.cumsum([0, *map(len, parts)])[:-1]
        return whole
