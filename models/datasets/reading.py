"""Reading of a validated file into examples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from models.datasets.errors import bad_rows
from models.datasets.examples import Example
from models.datasets.formats import FORMATS
from models.datasets.formats.format import Row
from models.datasets.limits import UNLIMITED
from models.datasets.problems import Problem, ProblemCollector, name_column
from models.datasets.tasks import TASKS
from models.datasets.tasks.task import GROUP
from models.datasets.tasks.unlabeled import UNLABELED


def read(path: Path, *, format: str, task: str, columns: dict[str, str]) -> Iterator[Example]:  # noqa: A002
    """Yield the examples of a file in order; `format`, `task` and `columns` as in its DatasetProfile.

    The file was validated when it was uploaded; a bad row nevertheless raises InvalidDataset.
    """
    parse = (TASKS.get(task) or UNLABELED[task]).parse
    for row in FORMATS[format].rows(path, columns):
        outcome = [row] if isinstance(row, Problem) else parse(row, UNLIMITED)
        if isinstance(outcome, list):
            collected = ProblemCollector()
            collected.add(name_column(problem, columns) for problem in outcome)
            raise bad_rows(collected, outcome[0].row or 0, filename=path.name)
        yield replace(outcome, group=_group(row)) if GROUP in columns else outcome


def _group(row: Row | Problem) -> str:
    value = None if isinstance(row, Problem) else row.values.get(GROUP)
    if value is None or (isinstance(value, float) and math.isnan(value)):  # a data frame's gap in a column of numbers
        return ""
    return str(value).strip()
