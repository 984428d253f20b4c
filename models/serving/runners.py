"""The table of runners, by the learner that trains what they serve. A new one is new files and a line here."""

from __future__ import annotations

from typing import Any

from models.backbones.registry import BackboneEntry
from models.datasets import tasks as data_tasks
from models.services.catalog import ResolvedVersion
from models.serving.encoders.runner import EncoderRunner
from models.serving.errors import ArtifactBroken
from models.serving.runner import OpenRunner, Runner
from models.serving.shared_compute import SharedCompute


def _open_generation(entry: BackboneEntry, shared: SharedCompute) -> Runner[Any]:
    # Imported when something is to be written: a predictor that only classifies stays as small as it is.
    settings = shared.settings
    if settings.generation_upstream and entry.name == settings.generation_base_model:
        from models.serving.upstream.runner import UpstreamRunner  # noqa: PLC0415

        return UpstreamRunner.open(entry, shared)
    from models.serving.generation.runner import GenerationRunner  # noqa: PLC0415

    return GenerationRunner.open(entry, shared)


def _open_detection(entry: BackboneEntry, shared: SharedCompute) -> Runner[Any]:
    # As above.
    from models.serving.detection.runner import DetectionRunner  # noqa: PLC0415

    return DetectionRunner.open(entry, shared)


RUNNERS: dict[str, OpenRunner] = {
    "encoder": EncoderRunner.open,
    "generation": _open_generation,
    "detection": _open_detection,
}

# Opened at start on the default base, and the one whose bases give embeddings.
DEFAULT_RUNNER = "encoder"
# Whose answers are written token by token.
WRITING_RUNNER = "generation"


def runner_of(version: ResolvedVersion) -> str:
    """Return the name of a version's runner: the learner of its task. Raises ArtifactBroken for a task of no table."""
    task = data_tasks.TASKS.get(version.task)
    if task is None or task.learner not in RUNNERS:
        reason = f"nothing here answers the task '{version.task}'"
        raise ArtifactBroken(model=version.full_name, version=version.number, reason=reason)
    return task.learner
