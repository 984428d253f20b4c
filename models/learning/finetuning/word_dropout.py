"""Word dropout: in every epoch other tokens of a text are missing (Iyyer et al. 2015, P15-1162).

A few rows of a class are known by heart after two epochs and teach nothing more; with gaps they do (decision 0053).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.backbones.backbone import TokenizedInput
from models.backbones.loading import Backbone
from models.backbones.text import TextBackbone

SHARE = 0.15


def suits(backbone: Backbone) -> bool:
    """Return whether rows are texts that are pooled as a whole: not words with a tag each, nor two texts apart."""
    return isinstance(backbone, TextBackbone)


def drop(
    tokens: Sequence[TokenizedInput], share: float, backbone: Backbone, *, seed: tuple[int, int]
) -> list[TokenizedInput]:
    """Return the rows without about this share of their tokens, drawn anew for every seed: run and epoch."""
    if not isinstance(backbone, TextBackbone):
        raise TypeError(f"words are dropped from texts, not from rows of {type(backbone).__name__}")
    generator = np.random.default_rng(seed)
    return [backbone.drop_tokens(row, share, generator) for row in tokens]  # type: ignore[arg-type]
