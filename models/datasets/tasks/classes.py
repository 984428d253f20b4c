"""Statistics of tasks with labels: rows per label, and warnings of what is suspicious about them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Hashable
from typing import Any

from models.datasets import numerals
from models.datasets.errors import JoinedLabels, NoLabels, NumbersAsLabels, OneClass, TooFewRows, TooManyClasses
from models.datasets.examples import Example
from models.datasets.limits import Limits
from models.datasets.problems import OWN, SHOWN, Problem, excerpt
from models.datasets.rare_labels import MINIMUM_ROWS, OTHER, RareLabels
from models.datasets.tasks.joined_labels import is_joined

FEW_ROWS = 10
STRONG_IMBALANCE = 20.0
_MANY_NUMBERS = 5
_MOST_LEFT_OUT = 0.5  # of a file's rows, for want of rows with the same label


class ClassStatistics:
    """Counts rows per label, up to one label more than the limit."""

    def __init__(
        self,
        limits: Limits,
        labels_of: Callable[[Example], tuple[str, ...]],
        *,
        column: str,
        minimum: int,
        several: bool = False,
    ) -> None:
        """Count none yet; `several`: the same rows may be given as rows with several labels each."""
        self.labels: dict[str, int] = {}
        self.rows = 0
        self.overflow = False
        self._limit = limits.max_classes
        self._labels_of = labels_of
        self._column = column
        self._minimum = minimum
        self._several = several
        self.together = False  # whether a row carries several
        self.bare = False  # whether a row carries none: what one label alone can be told apart from
        self._sets: set[Hashable] = set()  # two different label sets prove that there is something to tell apart

    def add(self, example: Example) -> None:
        """Count the labels of one example."""
        self.rows += 1
        labels = self._labels_of(example)
        self.together = self.together or len(labels) > 1
        self.bare = self.bare or not labels
        if len(self._sets) < 2:
            self._sets.add(frozenset(labels))
        for label in labels:
            if label in self.labels:
                self.labels[label] += 1
            elif len(self.labels) < self._limit:
                self.labels[label] = 1
            else:
                self.overflow = True

    def check(self) -> None:
        """Check for at most the limit of labels, more than one class, and the minimum of rows in each."""
        if self.overflow:
            raise self._numbers() or TooManyClasses(column=self._column, limit=self._limit)
        if not self.labels:
            raise NoLabels(column=self._column, rows=self.rows)
        if len(self._sets) < self._minimum:
            raise OneClass(rows=self.rows, label=excerpt(next(iter(self.labels), "")))
        rare = RareLabels().among(self.labels) if self._minimum else {}
        kept = len(self.labels) - len(rare)
        if rare and (kept < (1 if self.bare else self._minimum) or len(rare) > _MOST_LEFT_OUT * self.rows):
            raise self._numbers() or self._too_few(list(rare))

    def check_joined(self) -> None:
        """Raise JoinedLabels where another task reads several labels per row, and some labels look like several."""
        joined = self.joined() if self._several else []
        if joined:
            s, look = ("", "looks") if len(joined) == 1 else ("s", "look")
            raise JoinedLabels(column=self._column, count=len(joined), s=s, look=look, label=excerpt(joined[0]))

    def joined(self) -> list[str]:
        """Return the labels that are several others written as one."""
        if self._column != "label":
            return []
        return [label for label in self.labels if is_joined(label, self.labels)]

    def warnings(self) -> list[dict[str, Any]]:
        """Return warnings of labels that look alike, of numbers, of labels with few rows, of strong imbalance."""
        return [*self._similar(), *self._joined(), *self._numeric(), *self._rare(), *self._few(), *self._imbalance()]

    def _joined(self) -> list[dict[str, Any]]:
        """Return warnings of labels that are several others written as one."""
        joined = self.joined()
        if not joined:
            return []
        message = (
            f"{len(joined)} label{'s look' if len(joined) > 1 else ' looks'} like several written as one, such as "
            f"'{excerpt(joined[0])}'. Each is learned as a label of its own"
        )
        if self._several:
            message += f'; to learn several labels per row, pass columns={{"labels": "{OWN}"}}'
        message += "."
        return [{"code": "joined_labels", "message": message, "column": self._column, "labels": joined[:SHOWN]}]

    def _numbers(self) -> NumbersAsLabels | None:
        if len(self.labels) < 3 or not all(map(_is_number, self.labels)):
            return None
        return NumbersAsLabels(column=self._column, distinct=len(self.labels), rows=self.rows)

    def _numeric(self) -> list[dict[str, Any]]:
        if len(self.labels) < _MANY_NUMBERS or not all(map(_is_number, self.labels)):
            return []
        if all(label.lstrip("+-").isdigit() for label in self.labels):
            return []  # ids of classes, more often than not
        message = (
            f"The labels are {len(self.labels)} different numbers, such as {excerpt(next(iter(self.labels)))}. "
            f'They are learned as names without an order; to predict numbers, pass columns={{"value": "{OWN}"}}.'
        )
        return [{"code": "numeric_labels", "message": message, "column": self._column}]

    def _rare(self) -> list[dict[str, Any]]:
        rare = RareLabels().among(self.labels) if self._minimum else {}
        if not rare:
            return []
        names = ", ".join(f"'{excerpt(label, 30)}'" for label in list(rare)[:5])
        more = f" and {len(rare) - 5} more" if len(rare) > 5 else ""
        have, are = (" has", "is") if len(rare) == 1 else ("s have", "are")
        message = (
            f"{len(rare)} label{have} fewer than {MINIMUM_ROWS} rows and {are} left out: {names}{more}. Add rows, or "
            f'pass hyperparameters {{"rare_labels": "merge"}} to join rare labels as \'{OTHER}\'; "min_rows_per_label" '
            "sets the limit."
        )
        return [{"code": "rare_labels", "message": message, "labels": rare}]

    def _too_few(self, rare: list[str]) -> TooFewRows:
        more = len(rare) - 1
        others = (
            f" (and so {'has' if more == 1 else 'have'} {more} other label{'s' if more > 1 else ''})" if more else ""
        )
        problems = [
            Problem(
                None,
                None,
                self._column,
                f"Label '{excerpt(label)}' has 1 row; the minimum is {MINIMUM_ROWS}",
                TooFewRows.mend,
            )
            for label in rare[:SHOWN]
        ]
        return TooFewRows(
            problems=problems, total=len(rare), label=excerpt(rare[0]), got=1, minimum=MINIMUM_ROWS, others=others
        )

    def _similar(self) -> list[dict[str, Any]]:
        groups: dict[str, list[str]] = {}
        for label in self.labels:
            groups.setdefault(_plain(label), []).append(label)
        return [
            {
                "code": "similar_labels",
                "message": f"Labels {' and '.join(repr(excerpt(label)) for label in alike)} differ only in case, "
                "spaces, '_', '-' or the form of a character: are they the same? They are kept apart.",
                "labels": alike,
            }
            for alike in groups.values()
            if len(alike) > 1
        ]

    def _few(self) -> list[dict[str, Any]]:
        few = {label: count for label, count in self.labels.items() if MINIMUM_ROWS <= count < FEW_ROWS}
        if not few:
            return []
        names = ", ".join(f"'{excerpt(label, 30)}' ({count})" for label, count in list(few.items())[:5])
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        message = f"{len(few)} of {len(self.labels)} labels have fewer than {FEW_ROWS} rows: {names}{more}."
        return [{"code": "few_rows", "message": f"{message} More rows will help them most.", "labels": few}]

    def _imbalance(self) -> list[dict[str, Any]]:
        if len(self.labels) < 2:
            return []
        most = max(self.labels, key=lambda label: self.labels[label])
        least = min(self.labels, key=lambda label: self.labels[label])
        ratio = self.labels[most] / self.labels[least]
        if ratio < STRONG_IMBALANCE:
            return []
        message = (
            f"'{excerpt(most)}' has {ratio:.0f} times as many rows as '{excerpt(least)}' "
            f"({self.labels[most]} and {self.labels[least]}): look at the figures per class, not at accuracy alone."
        )
        return [{"code": "imbalance", "message": message, "ratio": round(ratio, 1)}]


def _plain(label: str) -> str:
    """Return what two labels that look alike have in common."""
    folded = unicodedata.normalize("NFKC", label).casefold().replace("_", " ").replace("-", " ")
    return " ".join("".join(char for char in folded if unicodedata.category(char) != "Cf").split())


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(numerals.parse(label))
    except ValueError:
        return False
