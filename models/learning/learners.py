"""The table of learners. A new one is a new module and a line here; a task names its own (`datasets.tasks`)."""

from __future__ import annotations

from models.datasets import tasks as data_tasks
from models.learning.detection.learner import DetectionLearner
from models.learning.encoder import EncoderLearner
from models.learning.generation.learner import GenerationLearner
from models.learning.learner import Learner

LEARNERS: dict[str, Learner] = {
    "encoder": EncoderLearner(),
    "generation": GenerationLearner(),
    "detection": DetectionLearner(),
}


def find(task: str) -> Learner:
    """Return the learner of the task called `task`; raises UnknownTask, and KeyError for a learner without a line."""
    return LEARNERS[data_tasks.find(task).learner]
