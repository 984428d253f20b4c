"""text-regression: a text, or two that are judged together (`text_pair`), and a number (`value`)."""

from __future__ import annotations

from typing import Any

from models.datasets.errors import OneValue
from models.datasets.examples import Example, TextPair
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem
from models.datasets.tasks import cells
from models.datasets.tasks.classes import FEW_ROWS
from models.datasets.tasks.task import Task


class ValueStatistics:
    """Counts rows and the range of their values."""

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self.rows = 0
        self.low = float("inf")
        self.high = float("-inf")

    def add(self, example: Example) -> None:
        """Count one example."""
        assert isinstance(example.target, float)  # noqa: S101  (what parse() makes)
        self.rows += 1
        self.low = min(self.low, example.target)
        self.high = max(self.high, example.target)

    def check(self) -> None:
        """Check that there are at least two different values."""
        if self.low == self.high:
            raise OneValue(rows=self.rows, value=self.low)

    def warnings(self) -> list[dict[str, Any]]:
        """Return a warning of few rows."""
        if self.rows >= FEW_ROWS:
            return []
        return [{"code": "few_rows", "message": f"There are only {self.rows} rows. More rows will help most."}]


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row with `text`, `value`, and `text_pair` if the file has it, or its problems."""
    taken = cells.Cells(row, limits)
    text = taken.take("text", cells.text, "")
    value = taken.take("value", cells.number, 0.0)
    if "text_pair" not in row.values:
        return taken.problems or Example(text, value, row.number)
    pair = taken.take("text_pair", cells.text, "")
    return taken.problems or Example(TextPair(text, pair), value, row.number)


def _statistics(limits: Limits) -> ValueStatistics:  # noqa: ARG001  (a Task's signature)
    return ValueStatistics()


TEXT_REGRESSION = Task(
    "text-regression", "text", "encoder", (("text", "value"),), parse, _statistics, optional=("text_pair",)
)
