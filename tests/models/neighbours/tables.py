"""The lines by which a learner of another kind joins: one in each of five tables."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from models.artifacts import parts
from models.datasets import tasks as data_tasks
from models.learning import learners
from models.learning import tasks as learning_tasks
from models.serving import runners
from tests.models.neighbours.learner import NeighbourLearner
from tests.models.neighbours.rows import NeighbourRows
from tests.models.neighbours.runner import NeighbourRunner
from tests.models.neighbours.task import NEAREST_ROW, NearestRow

# Uploads are read in processes of their own, which have the table of tasks as well: Python runs this when they start.
_IN_READERS = """
from models.datasets.tasks import TASKS
from tests.models.neighbours.task import NEAREST_ROW
TASKS[NEAREST_ROW.name] = NEAREST_ROW
"""


def add_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add them for the time of a test, in this process and in those that read its uploads."""
    folder = Path(tempfile.mkdtemp(prefix="graft-neighbours-"))
    (folder / "sitecustomize.py").write_text(_IN_READERS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(data_tasks.TASKS, NEAREST_ROW.name, NEAREST_ROW)
    monkeypatch.setitem(learning_tasks.TASKS, NEAREST_ROW.name, NearestRow())
    monkeypatch.setitem(learners.LEARNERS, NEAREST_ROW.learner, NeighbourLearner())
    monkeypatch.setitem(parts.PARTS, NeighbourRows.prefix, NeighbourRows)
    monkeypatch.setitem(runners.RUNNERS, NEAREST_ROW.learner, NeighbourRunner.open)
