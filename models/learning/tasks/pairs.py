"""Tasks whose rows may be pairs of texts."""

from __future__ import annotations

from collections.abc import Sequence

from models.backbones.backbone import Backbone
from models.backbones.pairs import PairBackbone
from models.datasets.examples import Input, TextPair
from models.learning.contract.errors import UnevenPairs


def view(backbone: Backbone, inputs: Sequence[Input]) -> Backbone:
    """Return the base as it reads the inputs: one vector per text, or of both texts of a pair. Raises UnevenPairs."""
    paired = sum(isinstance(item, TextPair) for item in inputs)
    if 0 < paired < len(inputs):
        raise UnevenPairs(pairs=paired, rows=len(inputs))
    return PairBackbone(backbone) if paired else backbone
