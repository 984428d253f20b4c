"""Boxes of many pictures that arrive in any order: kept in arrays, 64 bytes each, until their picture's turn comes."""

from __future__ import annotations

from array import array
from collections.abc import Hashable

import numpy as np

from models.datasets.errors import TooManyBoxes, TooManyClasses, TooManyPictures
from models.datasets.formats.boxes.annotation import DrawnBox
from models.datasets.limits import Limits

MOST_BOXES = 2_000_000
MOST_LABELS = 100_000
MOST_PICTURES = Limits().max_entries
_BEYOND = 0.05  # of a picture's side: shares that reach farther beyond it are pixels


class BoxesByPicture:
    """Collects boxes by picture. Pictures and labels are known by anything hashable, numbered as they come."""

    def __init__(self) -> None:
        self.pictures: dict[Hashable, int] = {}
        self.labels: dict[Hashable, int] = {}
        self._edges = array("d")
        self._keys = array("q")  # picture, label, position, line

    def __len__(self) -> int:
        return len(self._keys) // 4

    def picture(self, key: Hashable) -> int:
        """Return the number of a picture. Raises TooManyPictures."""
        number = self.pictures.setdefault(key, len(self.pictures))
        if number >= MOST_PICTURES:
            raise TooManyPictures(limit=MOST_PICTURES)
        return number

    def label(self, key: Hashable) -> int:
        """Return the number of a label. Raises TooManyClasses."""
        number = self.labels.setdefault(key, len(self.labels))
        if number >= MOST_LABELS:
            raise TooManyClasses(column="boxes", limit=MOST_LABELS)
        return number

    def add(self, picture: int, label: int, edges: tuple[float, float, float, float], position: int, line: int) -> None:
        """Keep a box; `position` counts entries of the file from 1, `line` is 0 where there are no lines."""
        if len(self) >= MOST_BOXES:
            raise TooManyBoxes(limit=MOST_BOXES)
        self._edges.extend(edges)
        self._keys.extend((picture, label, position, line))

    def grouped(self, names: dict[int, object], noun: str) -> Grouped:
        """Return the boxes for reading them picture by picture; `names` of labels, by number."""
        keys_B4 = np.frombuffer(self._keys, dtype=np.int64).reshape(-1, 4)
        edges_B4 = np.frombuffer(self._edges, dtype=np.float64).reshape(-1, 4)
        return Grouped(keys_B4, edges_B4, names, noun)


class Grouped:
    """Boxes in the order of their pictures."""

    def __init__(self, keys_B4: np.ndarray, edges_B4: np.ndarray, names: dict[int, object], noun: str) -> None:
        self._keys_B4, self._edges_B4, self._names, self._noun = keys_B4, edges_B4, names, noun
        self._order_B = np.argsort(keys_B4[:, 0], kind="stable")
        self._sorted_B = keys_B4[self._order_B, 0]

    def of(self, picture: int) -> tuple[DrawnBox, ...]:
        """Return the boxes of one picture, in the order of the file."""
        begin, end = np.searchsorted(self._sorted_B, (picture, picture + 1))
        return tuple(self._box(at) for at in self._order_B[begin:end])

    def _box(self, at: int) -> DrawnBox:
        _, label, position, line = (int(value) for value in self._keys_B4[at])
        left, top, right, bottom = (float(value) for value in self._edges_B4[at])
        return DrawnBox(self._names[label], (left, top, right, bottom), f"{self._noun} {position}", line or None)

    def are_shares(self) -> bool:
        """Return whether all edges are shares of a picture's sides: about between 0 and 1, and not just those two.

        Some lie a little beyond: a middle and half a width were rounded, or a box was moved over the picture's edge.
        Read as pixels such a file would be boxes of one pixel in the corner, all of them without an error.
        """
        edges = self._edges_B4
        within = edges.size > 0 and bool(((edges >= -_BEYOND) & (edges <= 1 + _BEYOND)).all())
        return within and not bool(np.isin(edges, (0.0, 1.0)).all())
