"""Groups that are joined by pairs: what is joined with the same one is joined, too, as components of a graph are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]


def join(number_N: Ints, left_P: Ints, right_P: Ints) -> Ints:
    """Return the group numbers of N rows with the two numbers of each of P pairs made equal."""
    different_P = left_P != right_P
    if not different_P.any():
        return number_N
    left_P, right_P = left_P[different_P], right_P[different_P]
    size = int(number_N.max()) + 1
    graph = coo_matrix((np.ones(len(left_P), dtype=np.int8), (left_P, right_P)), shape=(size, size))
    joined: Ints = connected_components(graph, directed=False)[1].astype(np.int64)[number_N]
    return joined
