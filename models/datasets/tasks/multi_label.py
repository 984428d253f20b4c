"""multi-label-classification: a text and any number of labels.

`labels` is a list in JSONL and Parquet. In CSV it is a JSON list (`["a", "b"]`), or labels with `|` between them, or
with `;` if there is no `|`. A row to which no label applies says so with an empty list, `[]`; an empty
cell is an error.
"""

from __future__ import annotations

from typing import Any

from models.datasets.examples import Example
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import Problem, Unfit
from models.datasets.tasks import cells
from models.datasets.tasks.classes import ClassCensus
from models.datasets.tasks.task import Task

_NONE: tuple[str, ...] = ()


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """`text`, `labels`."""
    taken = cells.Cells(row, limits)
    text = taken.take("text", cells.text, "")
    labels = taken.take("labels", _labels, _NONE)
    return taken.problems or Example(text, labels, row.number)


def _labels(value: Any, limits: Limits) -> tuple[str, ...]:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise Unfit("has no labels", "Write the labels, or [] if none applies.")
    if isinstance(value, str) and not value.lstrip().startswith("["):
        parts: list[Any] = value.split("|" if "|" in value else ";")
    else:
        parts = cells.json_list(value)
    if len(parts) > limits.max_classes:
        raise Unfit(f"has {len(parts)} labels; the limit is {limits.max_classes}", "Is this the labels' column?")
    return tuple(dict.fromkeys(cells.label(part, limits) for part in parts))


def _labels_of(example: Example) -> tuple[str, ...]:
    assert isinstance(example.target, tuple)  # noqa: S101  (what parse() makes)
    return tuple(str(label) for label in example.target)


def _census(limits: Limits) -> ClassCensus:
    return ClassCensus(limits, _labels_of, column="labels", minimum=2)


MULTI_LABEL_CLASSIFICATION = Task(
    "multi-label-classification", "text", "encoder", (("text", "labels"),), parse, _census
)
