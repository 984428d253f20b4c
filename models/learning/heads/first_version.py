"""The first servable version: a head on frozen features, measured out of fold, and the baselines beside it.

Where it helps, an n-gram part is added to it (see `stacking`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from models.learning.data import features, long_texts
from models.learning.data.corpus import Corpus
from models.learning.data.ragged import Ragged
from models.learning.evaluation import label_issues
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads import baselines, learning_curve, linear, ngrams, selection, stacking, zero_shot
from models.learning.heads.cross_validation import DesignMatrix, FitContext
from models.learning.heads.encoding import EncodedRun, Measured, asked_features
from models.learning.heads.linear import Floats, Head
from models.learning.heads.selection import Choice, PenaltyStart
from models.learning.heads.stacking import Stack, parts_of
from models.learning.publishing import Trained

log = structlog.get_logger(__name__)

# Rows per class up to which label names are tried as rows: one more among many changes nothing.
_NAMED_ROWS = 50


@dataclass(frozen=True, slots=True)
class HeadPrior:
    """Features and penalty with which heads of earlier jobs ended; None where too little is known."""

    features: str | None = None
    regularization: float | None = None


@dataclass(frozen=True, slots=True)
class FirstVersion:
    """The head (or zero-shot) model and all that was measured on the way to it."""

    trained: Trained
    head: Head  # without the n-gram part
    choice: Choice
    stack: Stack | None  # None: rows or targets that take no n-grams, or the customer wants none
    held: HeldOut
    logits_NK: Floats  # on the held-out rows, of head and n-gram part
    label_names: DesignMatrix | None  # None for a base that does not read text


def measure(run: EncodedRun, prior: HeadPrior) -> FirstVersion:
    """Choose features and penalty by cross-validation, fit on all rows, measure the baselines."""
    began = time.monotonic()
    corpus, task = run.training.corpus, run.task
    table = DesignMatrix(run.training.features, corpus.targets)
    names_table = zero_shot.label_name_rows(run)
    choice = selection.choose(
        table,
        names_table if len(corpus) <= _NAMED_ROWS * run.outputs else None,
        feature_sets(run, prior),
        fit_context(run),
        penalty_start(run, prior),
        corpus.groups.group_N,
    )
    run.run.check_stop()
    head = selection.fit_final(table, names_table, choice, fit_context(run))
    stack = _stack(run, choice)
    if run.validation is None and run.request.strategy != "zero-shot":
        run.report.state(**learning_curve.measure(run, choice, names_table, fit_context(run)))
    out_of_fold = HeldOut.out_of_fold(corpus.targets, choice.fold_N, corpus.groups.numbers)
    held, logits_NK, assessment = out_of_fold, stack.logits_NK if stack else choice.logits_NK, None
    if run.validation is not None:
        tuned = (logits_NK, out_of_fold)
        validation = run.validation.corpus
        held = HeldOut(validation.targets, None, validated=True, group_N=validation.groups.numbers)
        logits_NK = head.logits(features.derive(run.validation.features, choice.names))
        if stack is not None:
            logits_NK = stack.mix(logits_NK, stack.answer(texts_of(run.validation.corpus)))
        assessment = assess(logits_NK, held, task, seed=run.request.seed, tuned_on=tuned)
    else:
        assessment = assess(logits_NK, held, task, seed=run.request.seed)
    fitting_s, encoding_s = time.monotonic() - began, run.report.seconds_of("encoding")
    run.report.add_seconds("fitting", fitting_s)
    figures = baselines.score_and_seconds(assessment, fitting_s + encoding_s)
    run.report.add_tried("head", **figures, trials=selection.describe(choice.trials))
    found = baselines.measure(run, choice.fold_N, held, names_table)
    run.report.state(**_facts(run, choice, stack), baseline=found.scores)
    if run.request.strategy == "zero-shot":
        run.measured[found.trained.name] = Measured(found.assessment, held)
        return FirstVersion(found.trained, found.head, choice, None, held, found.logits_NK, names_table)
    trained = Trained(
        name="head",
        features=choice.names,
        parts=parts_of(head, stack),
        evaluation=assessment.evaluation(held, task, run.labels),
        hyperparameters={**as_chosen(run, choice), "lexical": stack is not None and stack.part is not None},
    )
    run.measured[trained.name] = Measured(assessment, held)
    return FirstVersion(trained, head, choice, stack, held, logits_NK, names_table)


def as_chosen(run: EncodedRun, choice: Choice) -> dict[str, Any]:
    """Return what was chosen, as a report has it; where words are tagged, also which words those are."""
    windowing, tagged = run.run.backbone.windowing, isinstance(run.training.corpus.targets, Ragged)
    return {
        "features": choice.features,
        "regularization": linear.regularization(choice.inverse_penalty),
        "label_names": choice.label_names,
        **({"words": windowing.words} if windowing is not None and tagged else {}),
    }


def feature_sets(run: EncodedRun, prior: HeadPrior) -> Mapping[str, tuple[str, ...]]:
    """Return the sets of features to choose from, the default first: the customer's own, else the base's."""
    asked = asked_features(run.request, run.backbone)
    sets = {str(run.request.hyperparameters.features): asked} if asked else run.backbone.feature_sets()
    return selection.default_first(sets, prior.features)


def penalty_start(run: EncodedRun, prior: HeadPrior) -> PenaltyStart:
    """Return the penalty that the customer named, else where earlier jobs ended."""
    asked = run.request.hyperparameters.regularization
    if asked != "auto":
        return PenaltyStart(1.0 / float(asked), fixed=True)
    return PenaltyStart(None if prior.regularization is None else 1.0 / prior.regularization)


def fit_context(run: EncodedRun) -> FitContext:
    """Return the settings that all fits of this run's heads share."""
    backbone = run.backbone
    return FitContext(
        run.task,
        run.outputs,
        backbone.device,
        backbone.threads,
        run.request.seed,
        run.stop,
        ngrams.most_characters(backbone.windowing),
    )


def _stack(run: EncodedRun, choice: Choice) -> Stack | None:
    """Return the n-gram part beside the chosen head; None where there is nothing to add or nothing is wanted."""
    corpus, wanted = run.training.corpus, run.request.hyperparameters.lexical
    if wanted is False or run.request.strategy == "zero-shot" or not _takes_ngrams(run):
        return None
    began = time.monotonic()
    try:
        stack = stacking.measure(
            texts_of(corpus),
            corpus.targets,
            choice.logits_NK,
            choice.fold_N,
            fit_context(run),
            wanted=wanted is True,
        )
    except linear.LinAlgError as error:
        # The part is an extra: a job whose n-grams cannot be fitted has a model without them.
        log.warning("terms_not_fitted", error=str(error))
        run.report.add_warning("ngrams_not_fitted", "The n-gram part could not be fitted: the model has none.")
        stack = None
    run.report.add_seconds("lexical", time.monotonic() - began)
    return stack


def texts_of(corpus: Corpus) -> list[str]:
    """Return the inputs of a corpus of whole texts."""
    return [str(text) for text in corpus.inputs]


def _takes_ngrams(run: EncodedRun) -> bool:
    """Return whether rows are whole texts and targets labels: pairs are about differences, values are not tempered."""
    corpus = run.training.corpus
    return (
        run.task.link.tempered
        and not isinstance(corpus.targets, Ragged)
        and all(isinstance(item, str) for item in corpus.inputs)
    )


def _facts(run: EncodedRun, choice: Choice, stack: Stack | None) -> dict[str, Any]:
    """Return the figures of the report that are the same for every candidate."""
    corpus = run.training.corpus
    out_of_fold_NK = stack.logits_NK if stack else choice.logits_NK
    calibrated = assess(out_of_fold_NK, HeldOut(corpus.targets, choice.fold_N), run.task, seed=run.request.seed)
    return {
        **run.run.describe(corpus, tokens=run.training.token_count),
        **({"lexical": stack.describe()} if stack else {}),
        "suspects": label_issues.find(
            corpus,
            calibrated.probabilities_NK,
            run.labels,
            truncated_N=long_texts.truncated_rows(run.training.tokens),
        ),
    }
