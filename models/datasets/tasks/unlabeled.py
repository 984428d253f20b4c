"""Rows without labels, for a job's `unlabeled_file`: a text, two texts, a picture or a sound each.

They are of no task of their own: what their rows are has to be what the rows of the training file are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from models.datasets.errors import UnknownTask
from models.datasets.examples import Example, Input, TextPair
from models.datasets.formats.format import Row
from models.datasets.limits import Limits
from models.datasets.media.encodings import Medium
from models.datasets.problems import Problem, excerpt
from models.datasets.tasks import TASKS, cells
from models.datasets.tasks.classes import ClassStatistics
from models.datasets.tasks.media_labels import NO_MEDIA, MediaStatistics, take_media, verify_media
from models.datasets.tasks.task import GROUP, Task

_Cells = cells.Cells
# Columns that say what a row's input is; all others are answers.
INPUTS = frozenset({"text", "text_pair", "image", "audio"})


def _task(name: str, columns: tuple[str, ...], read: Callable[[_Cells, Row], Input], noun: str) -> Task:
    def parse(row: Row, limits: Limits) -> Example | list[Problem]:
        taken = _Cells(row, limits)
        item = read(taken, row)
        return taken.problems or Example(item, "", row.number)

    def statistics(limits: Limits) -> ClassStatistics:
        return ClassStatistics(limits, lambda _: (), column="", minimum=0)

    return Task(name, "text", "encoder", (columns,), parse, statistics, noun=noun)


def _media_task(medium: Medium, noun: str) -> Task:
    def parse(row: Row, limits: Limits) -> Example | list[Problem]:
        taken = _Cells(row, limits)
        media = taken.take(medium, take_media(medium, row.number), NO_MEDIA)
        return taken.problems or Example(media, "", row.number)

    def statistics(limits: Limits) -> ClassStatistics:
        return MediaStatistics(limits, medium, labels_of=lambda _: (), column="", minimum=0)

    columns = ((medium,),)
    return Task(
        f"unlabeled-{medium}", medium, "encoder", columns, parse, statistics, verify=verify_media(medium), noun=noun
    )


def _text(taken: _Cells, _row: Row) -> Input:
    return taken.take("text", cells.text, "")


def _pair(taken: _Cells, _row: Row) -> Input:
    return TextPair(taken.take("text", cells.text, ""), taken.take("text_pair", cells.text, ""))


UNLABELED: dict[str, Task] = {
    task.name: task
    for task in (
        _task("unlabeled-text", ("text",), _text, "text"),
        _task("unlabeled-text-pair", ("text", "text_pair"), _pair, "pair"),
        _media_task("image", "picture"),
        _media_task("audio", "sound"),
    )
}


def kinds(task: str | None) -> list[Task]:
    """Return the kinds of rows that a file may hold; those of one task, if it is stated. Raises UnknownTask."""
    if task is None:
        return list(UNLABELED.values())
    if task in UNLABELED:
        return [UNLABELED[task]]
    if task not in TASKS:
        raise UnknownTask(task=excerpt(task), nearest="", known=", ".join(TASKS))
    return [UNLABELED[name] for name in dict.fromkeys(map(kind_of_columns, TASKS[task].layouts)) if name in UNLABELED]


def kind_of_columns(columns: Iterable[str]) -> str:
    """Return the kind of rows without labels that have the inputs of rows with such columns."""
    inputs = {name for name in columns if name in INPUTS}
    return next((name for name, task in UNLABELED.items() if set(task.layouts[0]) == inputs), "")


def warn_of_answers(columns: dict[str, str], found: list[str]) -> list[dict[str, Any]]:
    """Return the warning of columns beside the inputs: a label is not read."""
    others = [own for own in found if own not in columns.values() and own.strip().casefold() != GROUP]
    if not others:
        return []
    shown = ", ".join(f"'{excerpt(own, 40)}'" for own in others[:5]) + (", …" if len(others) > 5 else "")
    message = f"Not read, as the rows are learned from without labels: {shown}."
    return [{"code": "answers_not_read", "message": message, "columns": others[:100]}]
