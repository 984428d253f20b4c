"""Groups of rows that belong together: a model that learned from one of them is not measured on another.

Rows of one document, one patient or one film say less about rows to come than their number suggests. They are groups
where the file has a column `group`, and where inputs are equal but for case, spaces, digits and punctuation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from models.datasets.examples import Example, Input, TextPair
from models.datasets.repeats import normalised

Ints = NDArray[np.int64]

# As many as there are folds.
_FEWEST = 5
_VARIABLE = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, slots=True)
class Groups:
    """Group numbers of N rows, and how many rows a column of the file has put together."""

    group_N: Ints
    stated: int = 0  # groups of more than one row in the file's own column

    def take(self, rows: Ints) -> Groups:
        """Return the groups of some rows."""
        return Groups(self.group_N[rows], self.stated)

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
        return {"groups": {"rows": bound, "groups": len(np.unique(self.group_N)), "by": by}}


def find(examples: Sequence[Example]) -> Groups:
    """Return the groups of inputs that are alike, joined with those that the file states."""
    inputs, stated = [example.input for example in examples], [example.group for example in examples]
    alike_N = _alike(inputs, [example.target if isinstance(example.target, str) else "" for example in examples])
    # A row without a group of its own in the file is alone there.
    own_N = _numbers([(name, -1) if name else ("", row) for row, name in enumerate(stated)])
    counts = np.bincount(own_N)
    return Groups(_join(alike_N, own_N), int((counts > 1).sum()))


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


def _join(*parts: Ints) -> Ints:
    """Return the finest groups of which those of all parts are made: rows that share any part's number are together."""
    rows = len(parts[0])
    offsets = np.cumsum([rows, *(int(part.max(initial=-1)) + 1 for part in parts)])
    edges = np.concatenate([part + offset for part, offset in zip(parts, offsets, strict=False)])
    where = np.tile(np.arange(rows), len(parts))
    total = int(offsets[-1])
    graph = coo_matrix((np.ones(len(edges), dtype=np.int8), (where, edges)), shape=(total, total))
    _, number = connected_components(graph, directed=False)
    joined: Ints = np.unique(number[:rows], return_inverse=True)[1].astype(np.int64)
    return joined
