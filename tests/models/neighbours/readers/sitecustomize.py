"""The line in the table of tasks, for processes that read uploads: Python imports this when they start."""

from models.datasets.tasks import TASKS
from tests.models.neighbours.task import NEAREST_ROW

TASKS[NEAREST_ROW.name] = NEAREST_ROW
