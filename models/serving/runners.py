"""The table of runners, by the learner that trains what they serve. A new one is new files and a line here."""

from __future__ import annotations

from models.datasets import tasks as data_tasks
from models.services.catalog import ResolvedVersion
from models.serving.encoders.runner import EncoderRunner
from models.serving.errors import ArtifactBroken
from models.serving.runner import OpenRunner

RUNNERS: dict[str, OpenRunner] = {"encoder": EncoderRunner.open}

# Opened at start on the default base, and the one whose bases give embeddings.
DEFAULT_RUNNER = "encoder"


def runner_of(version: ResolvedVersion) -> str:
    """Return the name of a version's runner: the learner of its task. Raises ArtifactBroken for a task of no table."""
    task = data_tasks.TASKS.get(version.task)
    if task is None or task.learner not in RUNNERS:
        reason = f"nothing here answers the task '{version.task}'"
        raise ArtifactBroken(model=version.full_name, version=version.number, reason=reason)
    return task.learner
