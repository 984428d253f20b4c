"""What this run tells later ones, and what earlier ones tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome
from models.learning.heads import linear
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.situation import Situation
from models.learning.run import Run
from models.learning.search.priors import Prior
from models.learning.search.racing import CandidateRun

# Set by a customer, these make a candidate another one.
_DECISIVE = (
    "n_epochs",
    "batch_size",
    "learning_rate",
    "learning_rate_multiplier",
    "lora_rank",
    "trainable_blocks",
)


def outlook(run: Run, situation: Situation, head_score: float) -> Prior:
    """The outcomes that came with the request, seen from here."""
    here = _circumstances(situation, head_score)
    return Prior.of(run.request.experience, here, base_revision=run.backbone.revision, task=run.task.name)


def of(run: Run, first: FirstVersion, entries: Sequence[CandidateRun]) -> tuple[Outcome, ...]:
    """The head's, and that of every candidate that was looked at with its usual hyperparameters."""
    asked, choice = run.request.hyperparameters, first.choice
    head_score = first.trained.assessment.score.value
    named = asked.features != "auto", asked.regularization != "auto"
    head = Outcome(
        base_revision=run.backbone.revision,
        task=run.task.name,
        **asdict(_circumstances(first.situation, head_score)),
        candidate=HEAD,
        features="" if named[0] else choice.features,
        regularization=0.0 if named[1] else linear.regularization(choice.inverse_penalty),
        label_names=choice.label_names,
    )
    if any(getattr(asked, name) != "auto" for name in _DECISIVE):
        return (head,)
    return (head, *(_outcome(head, entry, entries) for entry in entries if entry.shown is not None))


def _outcome(head: Outcome, entry: CandidateRun, entries: Sequence[CandidateRun]) -> Outcome:
    trial = entry.shown
    assert trial is not None  # noqa: S101
    return replace(
        head,
        candidate=entry.candidate.name,
        relief=trial.relief if entry.trial else _foreseen(entry, entries),
        probability=trial.comparison.probability,
        epochs=trial.epochs if entry.trial else 0,
        blend=trial.blend,
        seconds_per_row_epoch=entry.seconds / max(entry.row_epochs, 1.0),
    )


def _foreseen(entry: CandidateRun, entries: Sequence[CandidateRun]) -> float:
    """Of one that left on a rung: as far behind the winner as it was there. Short refinements show half of the gain."""
    rung = max(entry.rungs)
    relief = entry.rungs[rung].relief
    for other in entries:
        if other.trial is not None and rung in other.rungs:
            return relief + other.trial.relief - other.rungs[rung].relief
    return relief


def _circumstances(situation: Situation, head_score: float) -> Circumstances:
    return Circumstances(
        rows=situation.rows,
        classes=situation.classes,
        rows_per_class=situation.rows_per_class,
        separability=situation.separability,
        head_score=head_score,
        depth_scores=tuple(situation.depth_scores[depth] for depth in sorted(situation.depth_scores, key=int)),
    )
