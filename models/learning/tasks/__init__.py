"""The table of tasks that can be learned and answered. A new one is a new file in this folder and a line here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from models.datasets import tasks as data_tasks
from models.learning.contract.errors import UnsupportedTask
from models.learning.tasks.multi_label import MultiLabel
from models.learning.tasks.object_detection import ObjectDetection
from models.learning.tasks.regression import Regression
from models.learning.tasks.single_label import SingleLabel
from models.learning.tasks.task import EncoderTask, Task
from models.learning.tasks.text_generation import TextGeneration
from models.learning.tasks.token_labels import TokenLabels

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        SingleLabel(),
        MultiLabel(),
        SingleLabel("image-classification"),
        SingleLabel("audio-classification"),
        Regression(),
        TokenLabels(),
        TextGeneration(),
        ObjectDetection(),
    )
}


def find(name: str) -> Task:
    """Return the task called `name`; raises UnsupportedTask."""
    kind = data_tasks.kind(name)
    if kind not in TASKS:
        raise UnsupportedTask(task=name, known=", ".join(TASKS))
    task: Any = TASKS[kind]
    return cast("Task", task if kind == name else replace(task, name=name))


def encoder_task(task: Task) -> EncoderTask:
    """Return the same task; raises UnsupportedTask if it is one of another learner."""
    if not isinstance(task, EncoderTask):
        raise UnsupportedTask(task=task.name, known=", ".join(TASKS))
    return task
