"""A head with default features and penalty, published before anything is searched, where the search takes long.

The search fits some forty heads, this takes two: one on four fifths of the rows, measured on the others, and the one
that is served. On all rows of 77 intents that is a first version after a third of the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from models.backbones.parallel import in_parallel
from models.learning.data import features
from models.learning.data.folds import Rows, keep_together, splits, stratified_folds
from models.learning.data.ragged import flat, units
from models.learning.evaluation.assessment import Assessment, HeldOut, assess
from models.learning.heads import baselines, first_version, selection, zero_shot
from models.learning.heads.cross_validation import DesignMatrix
from models.learning.heads.encoding import EncodedRun, Measured
from models.learning.heads.first_version import FirstVersion, HeadPrior
from models.learning.heads.linear import Floats, Head
from models.learning.heads.selection import Choice
from models.learning.heads.stacking import parts_of
from models.learning.publishing import Trained

NAME = "head-default"
# Vectors times outputs: below, the search itself takes a second on two cores. 770 rows of 77 intents have more, and so
# have 1,658 rows of any of 48: their search takes two and twelve seconds. A fit of fewer outputs takes hardly less: the
# search on 5,452 rows of six classes takes twelve, too.
_LONG, _LEAST_OUTPUTS = 50_000, 16
_FOLDS = 5  # of which one is held out


@dataclass(frozen=True, slots=True)
class DefaultHead:
    """The model, and the rows on which it was measured."""

    trained: Trained
    assessment: Assessment
    held: HeldOut

    def is_matched_by(self, run: EncodedRun, first: FirstVersion) -> bool:
        """Return whether the first version's held-out answers to the same rows are at least as good."""
        logits_NK = first.logits_NK
        if run.validation is None:
            logits_NK = logits_NK[units(run.training.corpus.targets, self.held.positions)]
        theirs = assess(logits_NK, self.held, run.task, seed=run.request.seed)
        return theirs.score.value >= self.assessment.score.value


def takes_long_to_search(run: EncodedRun) -> bool:
    """Return whether the search for a head takes so long that a version before it is worth its fit."""
    outputs = max(run.outputs, _LEAST_OUTPUTS)
    return run.request.strategy != "zero-shot" and len(flat(run.training.corpus.targets)) * outputs >= _LONG


def measure(run: EncodedRun, prior: HeadPrior) -> DefaultHead:
    """Fit the default head on a part of the rows and on all of them; state what a version has to beat."""
    began = time.monotonic()
    corpus, task, seed = run.training.corpus, run.task, run.request.seed
    fold_N = keep_together(stratified_folds(task.strata(corpus.targets), _FOLDS, seed=seed), corpus.groups.group_N)
    everything, (train, held_rows) = np.arange(len(corpus)), splits(fold_N)[0]
    choice = _default_choice(run, prior, fold_N)
    if run.validation is None:
        # Two halves, each decided at the thresholds that suit the other.
        held_groups = corpus.groups.take(held_rows).numbers
        halves_N = np.arange(len(held_rows)) % 2
        held = HeldOut(
            corpus.targets[held_rows], halves_N, rows_N=held_rows, group_N=held_groups, learned_from=len(train)
        )
        where = units(corpus.targets, held_rows)
        held_features = {name: values[where] for name, values in run.training.features.items()}
        measured_on, head = _fit(run, choice, [train, everything])
    else:
        rows = run.validation.corpus
        held = HeldOut(rows.targets, np.arange(len(rows)) % 2, validated=True, group_N=rows.groups.numbers)
        held_features = run.validation.features
        (head,) = _fit(run, choice, [everything])
        train, measured_on = everything, head
    assessment = assess(measured_on.logits(features.derive(held_features, choice.names)), held, task, seed=seed)
    run.report.add_seconds("default_head", time.monotonic() - began)
    figures = baselines.score_and_seconds(assessment, time.monotonic() - began + run.report.seconds_of("encoding"))
    run.report.add_tried(NAME, **figures)
    run.report.state(
        **run.run.describe(corpus, tokens=run.training.token_count), baseline=_baseline(run, train, held, held_features)
    )
    run.measured[NAME] = Measured(assessment, held)
    trained = Trained(
        name=NAME,
        features=choice.names,
        parts=parts_of(head, None),
        evaluation=assessment.evaluation(held, task, run.labels),
        hyperparameters=first_version.as_chosen(run, choice),
    )
    return DefaultHead(trained, assessment, held)


def _default_choice(run: EncodedRun, prior: HeadPrior, fold_N: Rows) -> Choice:
    """Return what the customer asked for, else where earlier jobs ended, else the defaults."""
    name, names = next(iter(first_version.feature_sets(run, prior).items()))
    inverse = first_version.penalty_start(run, prior).inverse or run.task.link.default_inverse_penalty
    return Choice(name, names, (names,), inverse, False, fold_N, np.empty((0, run.outputs), dtype=np.float32))


def _fit(run: EncodedRun, choice: Choice, parts: list[Rows]) -> list[Head]:
    needed = {name: run.training.features[name] for name in features.plain(choice.names)}
    table = DesignMatrix(needed, run.training.corpus.targets)
    context = first_version.fit_context(run)

    def fit_part(rows: Rows) -> Head:
        return selection.fit_final(table.take(rows), None, choice, context)

    return list(in_parallel(fit_part, parts, threads=run.backbone.threads))


def _baseline(run: EncodedRun, train: Rows, held: HeldOut, held_features: dict[str, Floats]) -> dict[str, float]:
    """Return the scores of the most frequent answer and of the class means, and the better of both as the gate."""
    task, targets, link = run.task, run.training.corpus.targets, run.task.link
    probe, where = run.backbone.probe(run.backbone.blocks), units(targets, train)
    head = zero_shot.class_mean_head(
        run.training.features[probe][where], flat(targets)[where], link, outputs=run.outputs
    )
    means = assess(head.logits(held_features[probe]), held, task, seed=run.request.seed).score.value
    majority = task.tally(held.targets, task.majority(targets[train], held.targets)).score
    return {"majority": majority, zero_shot.class_mean_method(link): means, "gate": max(majority, means)}
