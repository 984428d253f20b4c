"""Keys of JSON objects that come too late: the columns of a file of lines are gathered from its first rows.

A second text or a group that begins behind them would change what all rows are, and would not be read.
"""

from __future__ import annotations

from models.datasets.columns import is_canonical
from models.datasets.formats.format import Row
from models.datasets.formats.json_lines import PEEKED
from models.datasets.problems import Problem
from models.datasets.tasks.task import GROUP, Task
from models.datasets.tasks.unlabeled import INPUTS, UNLABELED


def find(row: Row | Problem, task: Task) -> list[Problem]:
    """Return a problem for each late key of a row that a task reads; of rows without labels, answers are never read."""
    if isinstance(row, Problem) or not row.late:
        return []
    return [
        Problem(
            row.number,
            row.line,
            own,
            f"is in none of the first {PEEKED:,} rows, from which the columns are gathered",
            "Write it in one of those, too (null where there is none), or remove it.",
        )
        for own in row.late
        if is_canonical(own) and (task.name not in UNLABELED or own.strip().casefold() in {*INPUTS, GROUP})
    ]
