"""The table of tasks. A new one is a new file in this folder and a line here."""

from __future__ import annotations

import difflib

from models.datasets.errors import UnknownTask
from models.datasets.problems import excerpt
from models.datasets.tasks.media_labels import AUDIO_CLASSIFICATION, IMAGE_CLASSIFICATION
from models.datasets.tasks.multi_label import MULTI_LABEL_CLASSIFICATION
from models.datasets.tasks.object_detection import OBJECT_DETECTION
from models.datasets.tasks.pair_label import TEXT_PAIR_CLASSIFICATION
from models.datasets.tasks.regression import TEXT_REGRESSION
from models.datasets.tasks.single_label import TEXT_CLASSIFICATION
from models.datasets.tasks.task import Task
from models.datasets.tasks.text_generation import TEXT_GENERATION
from models.datasets.tasks.token_labels import TOKEN_CLASSIFICATION

# In the order in which a file's columns are tried when no task is stated.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        TEXT_CLASSIFICATION,
        TEXT_PAIR_CLASSIFICATION,
        MULTI_LABEL_CLASSIFICATION,
        TEXT_REGRESSION,
        TOKEN_CLASSIFICATION,
        IMAGE_CLASSIFICATION,
        AUDIO_CLASSIFICATION,
        OBJECT_DETECTION,
        TEXT_GENERATION,
    )
}


def find(name: str) -> Task:
    """Return the task called `name`; raises UnknownTask."""
    if name in TASKS:
        return TASKS[name]
    alike = difflib.get_close_matches(name, TASKS, n=1)
    raise UnknownTask(task=excerpt(name), nearest=f"'{alike[0]}' or another " if alike else "", known=", ".join(TASKS))


def kind(name: str) -> str:
    """Return the task as which `name` is learned and answered: itself, unless it states another."""
    found = TASKS.get(name)
    return name if found is None else found.learned_as or name
