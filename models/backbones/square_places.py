"""Rotary positions of a picture's patches, for blocks that take them from outside (DINOv3)."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor


class SquarePlaces:
    """The places of square pictures, as all of one base are. Special tokens in front have none.

    It is no module: angles are no weights. They stay in fp32 until they are computed, whatever the weights are in, and
    are never moved at random, as the library's module does in training: two passes over a row would differ.
    """

    def __init__(self, rotary: Any, patch: int, special: int) -> None:
        self._rotary = rotary.eval()
        self._patch = patch
        self._special = special

    def angles(self, hidden_PTD: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, one row for each patch, in the precision of the hidden state.

        A picture that is not square has other places: comparing the passes when the base is loaded finds it.
        """
        pixels = self._patch * math.isqrt(hidden_PTD.shape[1] - self._special)
        # Of the picture itself only the sides count.
        picture = hidden_PTD.new_empty(1, 1, 1, 1).expand(1, 1, pixels, pixels)
        cosine, sine = self._rotary.to(hidden_PTD.device)(picture)
        return cosine, sine
