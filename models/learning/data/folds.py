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


def keep_together(fold_N: NDArray[np.int64], group_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the folds with all rows of a group in one of them: a copy in training would be a leak.

    Where groups are so large that folds become uneven, they are dealt out anew, the largest first, each to the fold
    that has the fewest rows. Unchanged if even so a fold has less than half of its share, as of a file that repeats a
    few inputs.
    """
    _, first_G, number_N, size_G = np.unique(group_N, return_index=True, return_inverse=True, return_counts=True)
    if len(first_G) == len(group_N):
        return fold_N
    folds = int(fold_N.max()) + 1

    def is_even(dealt_N: NDArray[np.int64]) -> bool:
        return bool(np.bincount(dealt_N, minlength=folds).min() * 2 * folds >= len(fold_N))

    together_N = fold_N[first_G][number_N]
    if is_even(together_N):
        return together_N
    fold_G, rows_of_fold = np.empty(len(first_G), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for group in np.argsort(-size_G, kind="stable"):
        fold_G[group] = rows_of_fold.argmin()
        rows_of_fold[fold_G[group]] += size_G[group]
    return fold_G[number_N] if is_even(fold_G[number_N]) else fold_N


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
