"""One training run as every learner gets it: the request, the base, the rows as they were read, the report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.backbones.loading import Backbone
from models.learning.contract.errors import Stopped
from models.learning.contract.request import TrainRequest
from models.learning.data.corpus import Corpus
from models.learning.report import ReportBuilder, versions
from models.learning.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Run:
    """One run whose rows are read. Only its report changes from here on."""

    request: TrainRequest
    backbone: Backbone
    task: Task  # bound to the training targets
    training: Corpus
    validation: Corpus | None
    stop: Callable[[], bool]
    report: ReportBuilder

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the outputs."""
        return self.training.labels

    def check_stop(self) -> None:
        """Raise Stopped if the caller asked for it."""
        if self.stop():
            raise Stopped

    def describe(self, training: Corpus, *, tokens: int) -> dict[str, Any]:
        """Return the report's facts; `training` are the rows that were learned from, their targets as counted."""
        validation, supports_K = self.validation, self.task.supports(training.targets, self.labels)
        return {
            "task": self.task.name,
            "seed": self.request.seed,
            "data": {
                "sha256": self.request.training.sha256,
                "inputs_sha256": training.digest,
                "rows": len(self.training),
                "rows_of_head": len(training),
                "validation_rows": 0 if validation is None else len(validation),
                "validation_rows_in_training": training.left_out.get("validation", {}).get("in_training", 0),
                **training.left_out,
                **training.groups.describe(),
                "tokens": tokens,
                "labels": {label: int(count) for label, count in zip(self.labels, supports_K, strict=True)},
            },
            "base": {
                "name": self.backbone.entry.name,
                "revision": self.backbone.revision,
                "precision": str(self.backbone.dtype).removeprefix("torch."),
            },
            "versions": versions(),
        }
