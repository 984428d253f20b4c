"""Groups of rows that belong together: a model that learned from one of them is not measured on another.

Rows of one document, one patient or one film say less about rows to come than their number suggests. They are groups
where the file has a column `group`, where inputs are equal but for case, spaces, digits and punctuation, and, of
pictures, where frozen features are alike (see `similarity`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Example, Input, TextPair
from models.datasets.repeats import compared, normalised
from models.learning.data import connected
from models.learning.data.connected import Ints
from models.learning.data.folds import keep_together

# As many as there are folds.
_FEWEST = 5
_VARIABLE = re.compile(r"[\W\d_]+")
# Least cosine of frozen features of rows that belong together, by modality. Of MobileNetV2's, 99 % of photos have no
# other over 0.67, and 98 % of frames another of their film over 0.8 (decision 0046). Texts over 0.97 are paraphrases
# that rows to come have as well, and of sounds no cosine tells.
LEAST_COSINE = {"image": 0.8}
# Of the rows of a label that one group of similar rows may hold: learned without it, the label would be another one.
_MOST_OF_LABEL = 0.5


@dataclass(frozen=True, slots=True)
class Similar:
    """Rows whose frozen features are alike: groups, the rows in them, and rows that are kept apart all the same."""

    groups: int
    rows: int
    apart: int  # in groups that hold too much of a label or one of its few, or would leave nothing to hold out


@dataclass(frozen=True, slots=True)
class Groups:
    """Group numbers of N rows, and where they come from."""

    group_N: Ints
    stated: bool = False  # whether the file has a column of groups
    similar: Similar | None = None  # None: features were not compared

    def take(self, rows: Ints) -> Groups:
        """Return the groups of some rows."""
        return replace(self, group_N=self.group_N[rows])

    @property
    def numbers(self) -> Ints | None:
        """Group numbers; None where every row stands alone."""
        return self.group_N if self.bound else None

    @property
    def bound(self) -> int:
        """Number of rows that share their group with another row."""
        _, counts = np.unique(self.group_N, return_counts=True)
        return int(counts[counts > 1].sum())

    def describe(self) -> dict[str, Any]:
        """Return the entry of the report; empty where every row stands alone."""
        if not (bound := self.bound):
            return {}
        by = "the column 'group' and similar inputs" if self.stated else "similar inputs"
        found = {"rows": bound, "groups": len(np.unique(self.group_N)), "by": by}
        if self.similar is not None and self.similar.rows:
            found["by"] = "similar inputs and similar frozen features"
            found["similar"] = {"rows": self.similar.rows, "groups": self.similar.groups, "meaning": self.message}
        return {"groups": found}

    @property
    def message(self) -> str:
        """What the similar rows mean for the score, in words; empty where there are none."""
        if self.similar is None or not self.similar.rows:
            return ""
        return (
            f"{self.similar.rows} rows are alike in {self.similar.groups} groups, as frames of one film are. A group "
            "is held out whole: its rows are answered by what has learned nothing like them"
        )

    @property
    def warning(self) -> str:
        """What similar rows that are not held out together mean for the score, in words; empty where there are none."""
        if self.similar is None or not self.similar.apart:
            return ""
        return (
            f"{self.similar.apart} rows are like many others of their label, as frames of one long film are. They "
            "cannot be held out together, so that the score may be too high for rows that are not like them: add rows "
            "from elsewhere, or say in a column 'group' what belongs together."
        )

    def join(self, similar_N: Ints, strata_N: Ints) -> Groups:
        """Return the groups joined with those of rows that are alike, (N,) each.

        What the customer states goes first: with a column of groups nothing is joined. Nor is a group that holds more
        than `_MOST_OF_LABEL` of a stratum's rows or belongs to a stratum of fewer groups than there are folds, nor any
        where the rest does not divide into folds.
        """
        if self.stated:
            return self
        kept_N = ~_are_much_of_a_stratum(similar_N, strata_N)
        alone_N = int(similar_N.max(initial=-1)) + 1 + np.arange(len(similar_N))
        joined_N = _join(self.group_N, np.where(kept_N, similar_N, alone_N))
        if not _divides(joined_N):
            kept_N, joined_N = np.zeros_like(kept_N), self.group_N
        _, number_N, rows_G = np.unique(similar_N, return_inverse=True, return_counts=True)
        shared_N = rows_G[number_N] > 1
        found_N = shared_N & kept_N
        found = Similar(len(np.unique(similar_N[found_N])), int(found_N.sum()), int((shared_N & ~kept_N).sum()))
        return replace(self, group_N=joined_N, similar=found)


def find(examples: Sequence[Example]) -> Groups:
    """Return the groups of inputs that are alike, joined with those that the file states."""
    inputs, stated = [compared(example) for example in examples], [example.group for example in examples]
    alike_N = _alike(inputs, [example.target if isinstance(example.target, str) else "" for example in examples])
    # A row without a group of its own in the file is alone there.
    own_N = _numbers([(name, -1) if name else ("", row) for row, name in enumerate(stated)])
    return Groups(_join(alike_N, own_N), any(stated))


def _are_much_of_a_stratum(similar_N: Ints, strata_N: Ints) -> NDArray[np.bool_]:
    """Return which rows are in a group of several without which too little of a stratum would be learned, (N,)."""
    _, group_N, rows_G = np.unique(similar_N, return_inverse=True, return_counts=True)
    _, stratum_N, rows_S = np.unique(strata_N, return_inverse=True, return_counts=True)
    pairs_2P, rows_P = np.unique(np.stack([group_N, stratum_N]), axis=1, return_counts=True)
    groups_S = np.bincount(pairs_2P[1])
    # As with templates: a stratum of few groups would be measured by what has learned hardly any of it.
    much_P = (rows_P > _MOST_OF_LABEL * rows_S[pairs_2P[1]]) | (groups_S[pairs_2P[1]] < _FEWEST)
    much_G = np.zeros(len(rows_G), dtype=np.bool_)
    much_G[pairs_2P[0][much_P]] = True
    held: NDArray[np.bool_] = (much_G & (rows_G > 1))[group_N]
    return held


def _divides(group_N: Ints) -> bool:
    """Return whether the groups can be dealt out to folds of about equal size."""
    fold_N = keep_together(np.arange(len(group_N)) % _FEWEST, group_N)
    return len(np.unique(np.stack([group_N, fold_N]), axis=1)[0]) == len(np.unique(group_N))


def _alike(inputs: Sequence[Input], labels: Sequence[str]) -> Ints:
    """Return a number per template; where a label has too few of them, one per input that is equal."""
    template_N, label_N = _numbers([_template(item) for item in inputs]), _numbers(labels)
    templates_of_label = np.bincount(np.unique(np.stack([label_N, template_N]), axis=1)[0])
    # Held out together, all rows of such a label would be learned from by nothing that is measured on it.
    few_N = templates_of_label[label_N] < _FEWEST
    equal_N = _numbers([normalised(item) for item in inputs])
    return _numbers([*zip(few_N.tolist(), np.where(few_N, equal_N, template_N).tolist(), strict=True)])


def _template(item: object) -> object:
    """Return an input without what varies in a template; what would be left of nothing else is kept."""
    if isinstance(item, TextPair):
        return (_template(item.first), _template(item.second))
    plain = normalised(item)
    return (_VARIABLE.sub(" ", plain).strip() or plain) if isinstance(plain, str) else plain


def _numbers(keys: Sequence[object]) -> Ints:
    seen: dict[object, int] = {}
    return np.array([seen.setdefault(key, len(seen)) for key in keys], dtype=np.int64)


def _join(one_N: Ints, other_N: Ints) -> Ints:
    """Return the finest groups of which those of both are made: rows that share either's number are together."""
    _, first_G, group_N = np.unique(other_N, return_index=True, return_inverse=True)
    return _numbers(connected.join(one_N, one_N, one_N[first_G[group_N]]).tolist())
