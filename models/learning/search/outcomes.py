"""Outcomes that this run leaves for later ones, and the priors that earlier ones have left for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from models.learning.contract.outcomes import HEAD, Circumstances, Outcome
from models.learning.heads import linear
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.first_version import FirstVersion, HeadPrior
from models.learning.search.priors import Prior
from models.learning.search.report import CandidateRecord
from models.learning.search.situation import Situation

# A candidate with one of these set by the customer is not the one that later jobs try by default.
_DECISIVE = (
    "n_epochs",
    "batch_size",
    "learning_rate",
    "learning_rate_multiplier",
    "lora_rank",
    "trainable_blocks",
)


def head_prior(run: EncodedRun) -> HeadPrior:
    """Return where the search for a head begins, from what is known before anything is fitted."""
    supports_K = run.task.supports(run.training.corpus.targets, run.labels)
    rows = len(run.training.corpus)
    earlier = _prior(run, Circumstances(rows, len(supports_K), float(supports_K.mean()) if len(supports_K) else rows))
    return HeadPrior(earlier.features(), earlier.regularization())


def prior(run: EncodedRun, situation: Situation, head_score: float) -> Prior:
    """Return the outcomes that came with the request, weighted by how near their circumstances are."""
    return _prior(run, _circumstances(situation, head_score))


def _prior(run: EncodedRun, here: Circumstances) -> Prior:
    return Prior.of(run.request.priors, here, base_revision=run.backbone.revision, task=run.task.name)


def list_outcomes(
    run: EncodedRun, first: FirstVersion, situation: Situation, records: Sequence[CandidateRecord]
) -> tuple[Outcome, ...]:
    """Return the outcome of the head and of every candidate tried in full and with its default hyperparameters."""
    asked, choice = run.request.hyperparameters, first.choice
    head_score = first.trained.evaluation.score.value
    named = asked.features != "auto", asked.regularization != "auto"
    head = Outcome(
        base_revision=run.backbone.revision,
        task=run.task.name,
        **asdict(_circumstances(situation, head_score)),
        candidate=HEAD,
        features="" if named[0] else choice.features,
        regularization=0.0 if named[1] else linear.regularization(choice.inverse_penalty),
        label_names=choice.label_names,
    )
    if any(getattr(asked, name) != "auto" for name in _DECISIVE):
        return (head,)
    full = (record for record in records if record.longest is not None and not record.reduced)
    return (head, *(describe_candidate(head, record, records) for record in full))


def describe_candidate(head: Outcome, record: CandidateRecord, records: Sequence[CandidateRecord]) -> Outcome:
    """Return the outcome of a candidate that was refined at least once; `head` is that of the same run's head."""
    trial = record.longest
    assert trial is not None  # noqa: S101
    return replace(
        head,
        candidate=record.candidate.name,
        error_reduction=trial.error_reduction if record.trial else _projected(record, records),
        probability=trial.comparison.probability,
        epochs=trial.epochs if record.trial else 0,
        blend=trial.blend,
        seconds_per_row_epoch=record.seconds / max(record.row_epochs, 1.0),
    )


def _projected(record: CandidateRecord, records: Sequence[CandidateRecord]) -> float:
    """Return the error reduction of a candidate that left on a rung: as far behind the winner's as it was there.

    Short refinements show half of a gain. A rung ranks by loss and this adds up answers, so that a loser may come out
    ahead; it is never remembered as better than what went on in its place, or the next job would drop the winner.
    """
    rung = max(record.rungs)
    reduction = record.rungs[rung].error_reduction
    for other in records:
        if other.trial is not None and rung in other.rungs:
            gained = other.trial.error_reduction - other.rungs[rung].error_reduction
            return min(reduction + gained, other.trial.error_reduction)
    further = (other.rungs[rung].error_reduction for other in records if max(other.rungs, default=0) > rung)
    return min([reduction, *further])


def _circumstances(situation: Situation, head_score: float) -> Circumstances:
    return Circumstances(
        rows=situation.rows,
        classes=situation.classes,
        rows_per_class=situation.rows_per_class,
        separability=situation.separability,
        head_score=head_score,
        depth_scores=tuple(situation.depth_scores[depth] for depth in sorted(situation.depth_scores, key=int)),
    )
