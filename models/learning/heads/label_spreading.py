"""Label spreading: what is known of some rows, passed on to the rows that are like them (arXiv:1904.04717).

A row's nearest neighbours in the base's own features share its class more often than a head fitted to a few rows finds
it: rows that no label reaches take part, because they say where the classes lie. Zhou et al., "Learning with Local and
Global Consistency" (2004); the weights of the graph are those of Iscen et al.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from models.learning.heads.linear import Floats

_POWER = 3.0  # of a cosine: near neighbours count for far more than distant ones
_STEPS = 10  # at a share of 1/2 what follows is less than a thousandth
_BLOCK_ROWS = 1_024  # whose similarities to all others are in memory at a time


def neighbour_graph(features_NF: Floats, neighbours: int, check_stop: Callable[[], None]) -> csr_matrix:
    """Return the normalised graph of rows, (N, N) sparse: each is joined to its `neighbours` nearest by cosine."""
    unit_NF = features_NF / np.maximum(np.linalg.norm(features_NF, axis=1, keepdims=True), 1e-12)
    rows, count = len(unit_NF), min(neighbours, len(unit_NF) - 1)
    columns, weights = [], []
    for start in range(0, rows, _BLOCK_ROWS):
        check_stop()
        alike_BN = unit_NF[start : start + _BLOCK_ROWS] @ unit_NF.T
        own_B = np.arange(len(alike_BN))
        alike_BN[own_B, start + own_B] = -np.inf
        nearest_BK = np.argpartition(-alike_BN, count - 1, axis=1)[:, :count]
        columns.append(nearest_BK)
        weights.append(np.maximum(alike_BN[own_B[:, None], nearest_BK], 0.0) ** _POWER)
    ends = np.arange(0, rows * count + 1, count)
    directed_NN = csr_matrix((np.concatenate(weights).ravel(), np.concatenate(columns).ravel(), ends), (rows, rows))
    graph_NN = directed_NN.maximum(directed_NN.T)
    scale_N = diags(1.0 / np.sqrt(np.maximum(np.asarray(graph_NN.sum(axis=1)).ravel(), 1e-12)))
    return csr_matrix((scale_N @ graph_NN @ scale_N).astype(np.float32))


def spread(graph_NN: csr_matrix, known_NK: Floats, share: float) -> NDArray[np.float32]:
    """Return probabilities (N, K): what is known of a row and, with a `share`, what its neighbours say, repeatedly."""
    found_NK = known_NK
    for _ in range(_STEPS):
        found_NK = np.float32(share) * (graph_NN @ found_NK) + np.float32(1 - share) * known_NK
    return np.asarray(found_NK / np.maximum(found_NK.sum(axis=1, keepdims=True), 1e-12), dtype=np.float32)
