"""multi-label-classification: a text and any number of labels.

`labels` is a list in JSONL and Parquet. In CSV it is a JSON list (`["a", "b"]`), one of Python's (`['a', 'b']`), or
labels with `|` between them, with `;` if there is no `|`, with `,` if there is neither, else with `#`. A row to which
no label applies says so with an empty list, `[]`; an empty cell is an error.
"""

from __future__ import annotations

from typing import Any

from models.datasets.errors import LabelsAsVectors
from models.datasets.examples import Example
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.problems import OWN, BadValue, Problem, excerpt
from models.datasets.tasks import cells
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.joined_labels import separator_of
from models.datasets.tasks.task import Remark, Task

_SIGN = 'If the sign is part of a name, write the row\'s labels as a list, such as ["R&D; Ops"].'
_NONE: tuple[str, ...] = ()


def parse(row: Row, limits: Limits) -> Example | list[Problem]:
    """Return the example of a row with `text` and `labels`, or its problems."""
    taken = cells.Cells(row, limits)
    text = taken.take("text", cells.text, "")
    labels = taken.take("labels", _labels, _NONE)
    return taken.problems or Example(text, labels, row.number)


def _labels(value: Any, limits: Limits) -> tuple[str, ...]:
    value = cells.choices(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise BadValue("has no labels", "Write the labels, or [] if none applies.")
    if isinstance(value, str) and not value.lstrip().startswith("["):
        mark = separator_of(value)
        parts: list[Any] = value.split(mark, limits.max_classes)
        if mark in parts[-1]:
            raise BadValue(f"has more than {limits.max_classes} labels", "Is this the labels' column?")
    else:
        parts = cells.json_list(value)
    if parts and all(map(cells.is_span, parts)):
        raise BadValue(f"holds spans where labels are expected: {excerpt(parts)}", cells.SPANS)
    if len(parts) > limits.max_classes:
        raise BadValue(f"has {len(parts)} labels; the limit is {limits.max_classes}", "Is this the labels' column?")
    if any(isinstance(part, list | tuple) for part in parts):
        raise BadValue(f"is a list of lists: {excerpt(parts)}", 'Write one list of names, such as ["a", "b"].')
    if len(parts) > 1 and all(part in (0, 1) and isinstance(part, int | float) for part in parts):
        zeros_and_ones = [int(part) for part in parts]
        if len(set(zeros_and_ones)) < len(parts):
            reason = f"is a 0/1 vector of length {len(parts)} where the names of labels are expected: {zeros_and_ones}"
            raise BadValue(reason, _named(len(parts)))
    return tuple(dict.fromkeys(cells.label(part, limits) for part in parts))


def remarks(row: Row, example: Example) -> list[Remark]:  # noqa: ARG001
    """Return at which signs the row's labels were split, where another reading is thinkable."""
    value = row.values.get("labels")
    if not isinstance(value, str) or value.lstrip().startswith(("[", "{")):
        return []
    mark = separator_of(value)
    return [Remark(f"Labels are parted at '{mark}'", _SIGN, usual=mark in "|;")] if mark in value else []


def _named(length: int) -> str:
    names = ", ".join(f'"name{at}"' for at in range(1, min(length, 20) + 1))
    return (
        'Write the names of the labels that apply, such as ["toxic", "insult"], with your names in their order: '
        f"jq -c --argjson names '[{names}]' '.[\"{OWN}\"] |= [$names[indices(1)[]]]' FILE > named.jsonl"
    )


class MultiLabelStatistics(ClassStatistics):
    """Counts rows per label, and recognises 0/1 vectors of two, which no single row gives away."""

    def check(self) -> None:
        """Check as for every task with labels, and that labels are not positions."""
        if set(self.labels) == {"0", "1"} and self.together:
            raise LabelsAsVectors(column="labels")
        super().check()


def _labels_of(example: Example) -> tuple[str, ...]:
    assert isinstance(example.target, tuple)  # noqa: S101  (what parse() makes)
    return tuple(str(label) for label in example.target)


def _statistics(limits: Limits) -> ClassStatistics:
    return MultiLabelStatistics(limits, _labels_of, column="labels", minimum=2)


MULTI_LABEL_CLASSIFICATION = Task(
    "multi-label-classification", "text", "encoder", (("text", "labels"),), parse, _statistics, remarks=remarks
)
