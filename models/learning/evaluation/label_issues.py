"""Label issues: rows whose label the other rows contradict (confident learning, arXiv:1911.00068)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.data.corpus import Corpus
from models.learning.data.ragged import Ragged
from models.learning.tasks.task import Floats

_MOST = 50


def find(
    corpus: Corpus, probabilities_NK: Floats, labels: Sequence[str], *, truncated_N: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """At most 50 rows, the most doubtful first, from calibrated out-of-fold probabilities. Single labels only.

    Rows that are not read to their end are none: what their label is about may be what was not read.
    """
    if isinstance(corpus.targets, Ragged) or corpus.targets.ndim != 1:
        return []
    given_N = corpus.targets
    every = np.arange(len(given_N))
    own_N = probabilities_NK[every, given_N]
    # A label is believed where its probability is over the mean that it has on rows which carry it.
    counts_K = np.bincount(given_N, minlength=len(labels))
    believed_K = np.bincount(given_N, own_N, minlength=len(labels)) / np.maximum(counts_K, 1)
    over_NK = np.where(probabilities_NK >= np.maximum(believed_K, 0.5), probabilities_NK, 0.0)
    rival_N = over_NK.argmax(1)
    doubt_N = over_NK[every, rival_N] - own_N
    doubt_N[(rival_N == given_N) | (over_NK[every, rival_N] == 0)] = -1.0
    doubt_N[truncated_N] = -1.0
    order = np.argsort(-doubt_N, kind="stable")[:_MOST]
    return [
        {
            "row": int(corpus.rows[index]),
            "label": labels[given_N[index]],
            "suggested": labels[rival_N[index]],
            "confidence": round(float(probabilities_NK[index, rival_N[index]]), 4),
        }
        for index in order
        if doubt_N[index] > 0
    ]
