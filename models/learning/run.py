"""What every step of one training run shares: the request, the rows, their features, where they are held out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from models.artifacts.folder import Artifact, write_artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import HeadWeights, Part, is_finite
from models.backbones.backbone import Row
from models.backbones.loading import Backbone
from models.learning.contract.errors import Diverged, Stopped
from models.learning.contract.events import VersionReady
from models.learning.contract.outcomes import Outcome
from models.learning.contract.request import TrainRequest
from models.learning.data.corpus import Corpus
from models.learning.evaluation.assessment import Assessment, HeldOut
from models.learning.tasks.task import Floats, Task


@dataclass(frozen=True, slots=True)
class Rows:
    """A corpus with its tokens and frozen features."""

    corpus: Corpus
    tokens: list[Row]
    features: dict[str, Floats]

    @property
    def token_count(self) -> int:
        """Tokens of one pass over the rows."""
        return sum(len(row) for row in self.tokens)


@dataclass(slots=True)
class Run:
    """One run under way. `tried` and `seconds` grow; everything else stands."""

    request: TrainRequest
    backbone: Backbone
    task: Task
    stop: Callable[[], bool]
    training: Rows
    validation: Rows | None
    began: float
    surplus: Rows | None = None  # rows beyond what a head needs, without features: refinement trains on them too
    report: dict[str, Any] = field(default_factory=dict)  # what is the same for every candidate
    tried: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    tokens_used: int = 0
    outcomes: tuple[Outcome, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the outputs."""
        return self.training.corpus.labels

    @property
    def rows_read(self) -> int:
        """Rows of the training file."""
        return len(self.training.corpus) + self.rows_beyond

    @property
    def rows_beyond(self) -> int:
        """Rows that the head does not see."""
        return len(self.surplus.corpus) if self.surplus else 0

    @property
    def outputs(self) -> int:
        """Logits of a prediction."""
        return self.task.outputs(self.labels)

    def check_stop(self) -> None:
        """Raises Stopped if the caller asked for it."""
        if self.stop():
            raise Stopped

    def elapsed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with its answers on the held-out rows."""

    name: str
    features: tuple[str, ...]
    parts: tuple[Part, ...]
    assessment: Assessment
    hyperparameters: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)


def write_candidate(run: Run, trained: Trained, held: HeldOut, *, improves: bool) -> VersionReady:
    """Write the artifact and say what it is worth. Raises Diverged if a weight is not a number."""
    if not is_finite(trained.parts):
        raise Diverged(epoch="the last", learning_rate=float(trained.hyperparameters.get("learning_rate", 0.0)))
    assessment = trained.assessment
    output = run.request.output_dir / trained.name
    thresholds = None if assessment.thresholds is None else tuple(float(value) for value in assessment.thresholds)
    manifest = Manifest(
        task=run.task.name,
        strategy=trained.name,
        labels=run.labels,
        features=trained.features,
        base=run.backbone.entry.name,
        base_revision=run.backbone.revision,
        temperature=assessment.temperature,
        thresholds=thresholds,
        details={**trained.details, "versions": versions()},
    )
    write_artifact(Artifact(manifest, tuple(_in_own_unit(part, run.task) for part in trained.parts)), output)
    report = {
        **run.report,
        "strategy": trained.name,
        **assessment.describe(held, run.task, run.labels),
        "hyperparameters": trained.hyperparameters,
        "strategies_tried": list(run.tried),
        "seconds": {**run.seconds, "total": run.elapsed()},
    }
    metrics = {
        "score": assessment.score.value,
        "score_low": assessment.score.low,
        "score_high": assessment.score.high,
        "baseline": run.report["baseline"]["gate"],
        **{name: report["calibration"][name] for name in ("ece",) if "calibration" in report},
    }
    return VersionReady(trained.name, output, metrics, report, improves)


def _in_own_unit(part: Part, task: Task) -> Part:
    """The head as it answers in the customer's unit; it was fitted to standardised values if the task has a scale."""
    if not isinstance(part, HeadWeights):
        return part
    offset, factor = task.scale
    return HeadWeights(part.weight_KF * factor, part.bias_K * factor + offset)


def versions() -> dict[str, str]:
    """What the result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for package in ("transformers", "graft"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree that was never installed
            found[package] = "unknown"
    return found
