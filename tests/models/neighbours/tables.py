"""The lines by which a learner of another kind joins: one in each of five tables."""

from __future__ import annotations

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


def add_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add them for the time of a test, in this process and in those that read its uploads."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "readers"))
    monkeypatch.setitem(data_tasks.TASKS, NEAREST_ROW.name, NEAREST_ROW)
    monkeypatch.setitem(learning_tasks.TASKS, NEAREST_ROW.name, NearestRow())
    monkeypatch.setitem(learners.LEARNERS, NEAREST_ROW.learner, NeighbourLearner())
    monkeypatch.setitem(parts.PARTS, NeighbourRows.prefix, NeighbourRows)
    monkeypatch.setitem(runners.RUNNERS, NEAREST_ROW.learner, NeighbourRunner.open)
