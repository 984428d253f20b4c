"""text-pair-classification: two texts that are judged together, and one label (entailment, duplicates)."""

from __future__ import annotations

from models.datasets.examples import Example, TextPair
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem
from models.datasets.tasks import cells
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.task import Task


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row with `text`, `text_pair` and `label`, or its problems."""
    taken = cells.Cells(row, limits)
    text = taken.take("text", cells.text, "")
    pair = taken.take("text_pair", cells.text, "")
    label = taken.take("label", cells.label, "")
    return taken.problems or Example(TextPair(text, pair), label, row.number)


def _statistics(limits: Limits) -> ClassStatistics:
    return ClassStatistics(limits, lambda example: (str(example.target),), column="label", minimum=2)


TEXT_PAIR_CLASSIFICATION = Task(
    "text-pair-classification",
    "text",
    "encoder",
    (("text", "text_pair", "label"),),
    parse,
    _statistics,
    noun="pair",
    learned_as="text-classification",
)
