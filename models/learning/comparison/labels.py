"""Answers of versions whose labels differ, in the terms of one of them and on the labels that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifacts.manifest import Manifest
from models.learning.data.ragged import Ragged
from models.learning.tasks.task import Chosen, EncoderTask

Bools = NDArray[np.bool_]


def translate(chosen: Chosen, task: EncoderTask, theirs: Manifest, ours: Sequence[str]) -> Chosen:
    """Return what the version `theirs` says in the order of the labels `ours`; labels that are not ours are dropped.

    (N, K) masks, (U, 1 + 2K) probabilities of tags, or values, which have no labels and are brought to our scale.
    """
    if not ours:
        offset, factor = task.scale
        their_offset, their_factor = theirs.scale
        values_N1: Chosen = (their_offset - offset + their_factor * chosen.astype(np.float64)) / factor
        return values_N1
    at = {label: index for index, label in enumerate(theirs.labels)}
    pairs = [(index, at[label]) for index, label in enumerate(ours) if label in at]
    if task.outputs(ours) != len(ours):  # tags: O, then B and I of each label
        columns = [(0, 0), *((1 + 2 * k + part, 1 + 2 * t + part) for k, t in pairs for part in (0, 1))]
    else:
        columns = pairs
    translated = np.zeros((len(chosen), task.outputs(ours)), dtype=chosen.dtype)
    for to, source in columns:
        translated[:, to] = chosen[:, source]
    return translated


def rows_with(targets: Any, shared_K: Bools) -> NDArray[np.int64]:
    """Return the rows that can be compared: all, but for single labels those whose label is shared."""
    if isinstance(targets, Ragged) or targets.ndim != 1:
        return np.arange(len(targets))
    return np.flatnonzero(shared_K[targets])


def restrict(targets: Any, chosen: Chosen, shared_K: Bools) -> tuple[Any, Chosen]:
    """Return targets and answers without the labels that are not shared, as if nobody had asked for them."""
    if isinstance(targets, Ragged):
        keep_T = np.concatenate([[True], np.repeat(shared_K, 2)])
        unread_NL = targets.unread_NL
        if unread_NL is not None:
            unread_NL = unread_NL * shared_K[: unread_NL.shape[1]]
        tags = Ragged(np.where(keep_T[targets.values], targets.values, 0), targets.starts, unread_NL, targets.inexact_U)
        return tags, np.where(keep_T, chosen, 0).astype(chosen.dtype)
    if targets.ndim == 1:
        return targets, chosen  # rows of other labels are left out as a whole
    return targets[:, shared_K], chosen[:, shared_K]
