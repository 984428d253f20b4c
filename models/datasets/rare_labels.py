"""Labels with too few rows to be learned: left out, or joined into one; the file's warnings and the report say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from models.datasets.examples import Box, Example

Rule = Literal["drop", "merge"]
RULES: tuple[Rule, ...] = ("drop", "merge")
MINIMUM_ROWS = 2  # one row to learn from, one to check with
OTHER = "other"


@dataclass(frozen=True, slots=True)
class RareLabels:
    """The rule for labels of fewer rows than `minimum`."""

    minimum: int = MINIMUM_ROWS
    rule: Rule = "drop"

    def among(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the labels that are rare, and their rows."""
        return {label: count for label, count in counts.items() if count < self.minimum}

    def kept(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return the labels that are left, and about how many rows each has."""
        rare = self.among(counts)
        kept = {label: count for label, count in counts.items() if label not in rare}
        joined = sum(rare.values())
        if self.joins(counts):
            kept[OTHER] = kept.get(OTHER, 0) + joined
        return kept

    def joins(self, counts: Mapping[str, int]) -> bool:
        """Return whether the rare labels become one; if that were rare itself they are left out."""
        rare = self.among(counts)
        return self.rule == "merge" and bool(rare) and sum(rare.values()) + counts.get(OTHER, 0) >= self.minimum

    def decide(self, counts: Mapping[str, int]) -> Replaced:
        """Return what becomes of the labels, by the rows that the training set has of each."""
        return Replaced(self.among(counts), OTHER if self.joins(counts) else None)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Rare labels with their training rows, and the label that they are joined into; None: they are left out."""

    labels: Mapping[str, int] = field(default_factory=dict)
    other: str | None = None

    def apply(self, examples: Sequence[Example]) -> list[Example]:
        """Yield the rows without rare labels; a picture stays without its boxes. Spans and values stay as they are."""
        if not self.labels:
            return list(examples)
        found = (_without(example, self.labels, self.other) for example in examples)
        return [example for example in found if example is not None]


def count(examples: Sequence[Example]) -> dict[str, int]:
    """Return the rows of each label (pictures, where labels are those of boxes); empty for spans and values."""
    counts: Counter[str] = Counter()
    for example in examples:
        counts.update(dict.fromkeys(_labels(example), 1))
    return dict(counts)


def _labels(example: Example) -> tuple[str, ...]:
    target = example.target
    if isinstance(target, str):
        return (target,)
    if not isinstance(target, tuple):
        return ()
    found = (each.label if isinstance(each, Box) else each for each in target)
    return tuple(label for label in found if isinstance(label, str))


def _without(example: Example, rare: Mapping[str, int], other: str | None) -> Example | None:
    """Return the example with rare labels replaced or left out; None if no label is left of it."""
    labels = _labels(example)
    if not any(label in rare for label in labels):
        return example
    if isinstance(example.target, tuple) and isinstance(example.target[0], Box):
        return replace(example, target=_boxes(example.target, rare, other))
    left = tuple(dict.fromkeys((other if label in rare else label) for label in labels))
    named = tuple(label for label in left if label is not None)
    if not named:
        return None
    return replace(example, target=named[0] if isinstance(example.target, str) else named)


def _boxes(boxes: Iterable[object], rare: Mapping[str, int], other: str | None) -> tuple[Box, ...]:
    """Return the boxes that are left: what a left-out label marks is learned as background.

    A thing that two labels marked with the same borders is one where both are joined.
    """
    kept = [box for box in boxes if isinstance(box, Box) and (other or box.label not in rare)]
    named = (replace(box, label=other) if other and box.label in rare else box for box in kept)
    return tuple(dict.fromkeys(named))
