"""Rows whose frozen features are alike, as those of frames of one film: groups by a least cosine.

A base that was trained on other pictures gives two frames of one film nearly the same features. Rows at least so alike
are joined, and what is joined with the same row is joined, too: connected components of the graph of similar pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.learning.data import connected
from models.learning.data.connected import Ints

Floats = NDArray[np.float32]

# Cosines of so many rows with so many others at once: 16 MiB, however many rows there are.
_BLOCK = 2_048
# Up to so many rows every pair is compared; 16,384 rows of 1,280 numbers take ten seconds on a core.
_EVERY_PAIR = 16_384
# Beyond, each row is compared with the block of those that lie near the same drawn row, in so many draws.
_DRAWS = 3


def components(features_ND: Floats, least: float, *, seed: int, check_stop: Callable[[], None]) -> Ints:
    """Return a number per row, (N,), equal for rows that a chain of cosines of at least `least` connects.

    The mean over the rows is taken off first: what all rows share says nothing about two of them. Up to `_EVERY_PAIR`
    rows all pairs are compared; of more rows those that lie near each other, so that a few pairs may be missed.
    Memory is one copy of the features and a block of cosines.
    """
    unit_ND = features_ND - features_ND.mean(axis=0, dtype=np.float64).astype(np.float32)
    norm_N1 = np.linalg.norm(unit_ND, axis=1, keepdims=True)
    # Rows at the mean, as all of a file that repeats one picture, are like nothing: equal inputs are groups elsewhere.
    unit_ND /= np.maximum(norm_N1, 1e-12)
    number_N = np.arange(len(unit_ND))
    for left, right in _blocks(unit_ND, seed):
        check_stop()
        at_P, of_P = np.nonzero(unit_ND[left] @ unit_ND[right].T >= least)
        number_N = connected.join(number_N, number_N[left[at_P]], number_N[right[of_P]])
    return number_N


def _blocks(unit_ND: Floats, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of blocks of rows that are to be compared."""
    rows = len(unit_ND)
    if rows <= _EVERY_PAIR:
        parts = _cut(np.arange(rows))
        for at, left in enumerate(parts):
            for right in parts[at:]:
                yield left, right
        return
    generator = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        pivots = generator.choice(rows, size=-(-rows // _BLOCK), replace=False)
        cosine_NC = unit_ND @ unit_ND[pivots].T
        nearest_N = cosine_NC.argmax(axis=1)
        for part in _cut(np.lexsort((cosine_NC.max(axis=1), nearest_N))):
            yield part, part


def _cut(order: Ints) -> list[Ints]:
    return np.array_split(order, max(1, -(-len(order) // _BLOCK)))
