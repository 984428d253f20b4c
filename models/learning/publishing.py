"""Publishing: from a trained model to a version on disk and its event, the same for every learner."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from models.artifacts.folder import Artifact, write_artifact
from models.artifacts.manifest import UNSCALED, Manifest
from models.artifacts.parts import Part, is_finite
from models.learning.contract import effects
from models.learning.contract.errors import Diverged
from models.learning.contract.events import VersionReady
from models.learning.evaluation.scores import Evaluation
from models.learning.report import versions
from models.learning.run import Run
from models.learning.tasks.task import EncoderTask


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, and how it does on held-out rows."""

    name: str  # of the candidate
    parts: tuple[Part, ...]
    evaluation: Evaluation
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] = ()  # of the base, side by side as the model reads them
    details: dict[str, Any] = field(default_factory=dict)


def publish(run: Run, trained: Trained, *, improves: bool) -> VersionReady:
    """Write the artifact and return the event of it. Raises Diverged if a weight is not a number.

    `improves`: it is better than the run's earlier candidates on the same held-out rows; the first one is.
    """
    if not is_finite(trained.parts):
        raise Diverged(epoch="the last", learning_rate=float(trained.hyperparameters.get("learning_rate", 0.0)))
    evaluation, output = trained.evaluation, run.request.output_dir / trained.name
    manifest = Manifest(
        task=run.task.name,
        strategy=trained.name,
        labels=run.labels,
        features=trained.features,
        base=run.backbone.entry.name,
        base_revision=run.backbone.revision,
        temperature=evaluation.temperature,
        thresholds=evaluation.thresholds,
        scale=run.task.scale if isinstance(run.task, EncoderTask) else UNSCALED,
        windowing=run.backbone.windowing,
        details={**trained.details, "versions": versions()},
    )
    write_artifact(Artifact(manifest, trained.parts), output)
    own = {
        "strategy": trained.name,
        **evaluation.figures,
        "hyperparameters": _hyperparameters(run, trained),
        "warnings": effects.warnings(trained.name, asdict(run.request.hyperparameters), run.task.name),
    }
    metrics = {
        "score": evaluation.score.value,
        "score_low": evaluation.score.low,
        "score_high": evaluation.score.high,
        "baseline": run.report.baseline,
    }
    if "calibration" in evaluation.figures:
        metrics["ece"] = evaluation.figures["calibration"]["ece"]
    return VersionReady(trained.name, output, metrics, run.report.of_candidate(own), improves)


def _hyperparameters(run: Run, trained: Trained) -> dict[str, Any]:
    """Return what the version was made with; None for what has no effect on it."""
    rare = run.request.hyperparameters.rare()
    rows = {"min_rows_per_label": rare.minimum, "rare_labels": rare.rule}
    return {**rows, **trained.hyperparameters, **dict.fromkeys(effects.without_effect(trained.name, run.task.name))}
