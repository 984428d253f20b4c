"""text-classification: a text and one label."""

from __future__ import annotations

from models.datasets.examples import Example
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem
from models.datasets.tasks import cells
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.task import Task


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row with `text` and `label`, or its problems."""
    taken = cells.Cells(row, limits)
    text = taken.take("text", cells.text, "")
    label = taken.take("label", cells.label, "")
    return taken.problems or Example(text, label, row.number)


def _statistics(limits: Limits) -> ClassStatistics:
    return ClassStatistics(limits, lambda example: (str(example.target),), column="label", minimum=2, several=True)


TEXT_CLASSIFICATION = Task("text-classification", "text", "encoder", (("text", "label"),), parse, _statistics)
