"""Stratified folds and samples, seeded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def stratified_folds(strata_N: NDArray[np.int64], folds: int, *, seed: int) -> NDArray[np.int64]:
    """Return a fold number per row, (N,): every stratum is spread evenly, all folds have about equal size."""
    generator = np.random.default_rng(seed)
    fold_N = np.empty(len(strata_N), dtype=np.int64)
    # Shuffle, then sort by stratum and deal out: the next stratum goes on where the last one ended.
    shuffled = generator.permutation(len(strata_N))
    order = shuffled[np.argsort(strata_N[shuffled], kind="stable")]
    fold_N[order] = np.arange(len(order)) % folds
    return fold_N


def keep_together(fold_N: NDArray[np.int64], duplicates_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the folds with rows of equal `duplicates_N` in one of them: a copy in training would be a leak.

    Unchanged where that would leave a fold less than half of its share, as of a file that repeats a few inputs.
    """
    _, first_G, group_N = np.unique(duplicates_N, return_index=True, return_inverse=True)
    if len(first_G) == len(duplicates_N):
        return fold_N
    folds = int(fold_N.max()) + 1
    together_N = fold_N[first_G][group_N]
    return together_N if np.bincount(together_N, minlength=folds).min() * 2 * folds >= len(fold_N) else fold_N


def splits(fold_N: NDArray[np.int64]) -> list[tuple[Rows, Rows]]:
    """Return (training rows, held-out rows) for every fold."""
    return [(np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)) for fold in range(int(fold_N.max()) + 1)]


def subsample(strata_N: NDArray[np.int64], size: int, *, seed: int) -> Rows:
    """Return `size` rows (or all, if there are fewer) in ascending order, every stratum by its share."""
    if len(strata_N) <= size:
        return np.arange(len(strata_N))
    parts = -(-len(strata_N) // size)
    fold_N = stratified_folds(strata_N, parts, seed=seed)
    return np.flatnonzero(fold_N == 0)
