"""The table of tasks that can be learned. A new one is a new file in this folder and a line here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from models.datasets import tasks as data_tasks
from models.learning.contract.errors import UnsupportedTask
from models.learning.tasks.multi_label import MultiLabel
from models.learning.tasks.regression import Regression
from models.learning.tasks.single_label import SingleLabel
from models.learning.tasks.task import AnsweredTask, Task
from models.learning.tasks.token_labels import TokenLabels

_ALL: tuple[Task, ...] = (
    SingleLabel(),
    MultiLabel(),
    SingleLabel("image-classification"),
    SingleLabel("audio-classification"),
    Regression(),
    TokenLabels(),
)
TASKS: dict[str, Task] = {task.name: task for task in _ALL}
# What can be answered: these, and the tasks of other learners.
ANSWERED: dict[str, AnsweredTask] = {**TASKS}


def find(name: str) -> Task:
    """The task called `name`; raises UnsupportedTask."""
    kind = data_tasks.kind(name)
    if kind not in TASKS:
        raise UnsupportedTask(task=name, known=", ".join(TASKS))
    task: Any = TASKS[kind]
    return cast("Task", task if kind == name else replace(task, name=name))


def find_answered(name: str) -> AnsweredTask:
    """Return how answers of the task called `name` read; raises UnsupportedTask."""
    kind = data_tasks.kind(name)
    if kind not in ANSWERED:
        raise UnsupportedTask(task=name, known=", ".join(ANSWERED))
    return ANSWERED[kind]
