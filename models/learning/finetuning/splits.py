"""Splits of the rows: those that a fit learns from, those that it answers, and the head of the same rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from models.backbones.backbone import TokenizedInput
from models.datasets.examples import Input
from models.learning.data import features
from models.learning.data.folds import Rows, keep_together, splits, stratified_folds, subsample
from models.learning.data.ragged import Ragged, join, units
from models.learning.finetuning.training_loop import TrainingRows
from models.learning.heads import first_version, selection, stacking, zero_shot
from models.learning.heads.cross_validation import DesignMatrix
from models.learning.heads.encoding import EncodedRows, EncodedRun
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Floats, Head
from models.learning.tasks.task import Targets


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on, and held-out rows on which the fine-tuned network is compared with a head of the same rows."""

    name: str  # of its checkpoints
    train: Rows
    held: Rows  # positions in the corpus of the training file, or of the validation file
    held_inputs: list[Input]
    held_targets: Targets | Ragged
    held_tokens: list[TokenizedInput]
    held_features: dict[str, Floats]
    with_extra_rows: bool = True  # `EncodedRun.extra_rows` are trained on as well


@dataclass(frozen=True, slots=True)
class HeadBaseline:
    """The first version fitted to a split's training rows alone, and its logits of the held-out ones."""

    head: Head
    start: Head  # from which the network is refined: see `_start`
    logits_NK: Floats
    ngram_logits_NK: Floats | None  # None if it has no n-gram part


def trial_splits(run: EncodedRun, *, folds: int, used: int) -> list[Split]:
    """Return the splits that trials hold out in turn; the validation file, if there is one, is the only one."""
    everything = np.arange(len(run.training.corpus))
    if run.validation is not None:
        return [_split("trial-0", run.validation, everything, np.arange(len(run.validation.corpus)))]
    return [
        _split(f"trial-{number}", run.training, train, held)
        for number, (train, held) in enumerate(splits(_folds(run, folds))[:used])
    ]


def rung_split(run: EncodedRun, name: str, *, folds: int, rows: int, held_rows: int) -> Split:
    """Return the first split of the trials, or so many rows of it."""
    seed, strata_N = run.request.seed, run.task.strata(run.training.corpus.targets)
    if run.validation is not None:
        held = subsample(run.task.strata(run.validation.corpus.targets), held_rows, seed=seed)
        train = subsample(strata_N, rows, seed=seed)
        return _split(name, run.validation, train, held, with_extra_rows=False)
    train, held = splits(_folds(run, folds))[0]
    train = train[subsample(strata_N[train], rows, seed=seed)]
    held = held[subsample(strata_N[held], held_rows, seed=seed)]
    return _split(name, run.training, train, held, with_extra_rows=False)


def _folds(run: EncodedRun, folds: int) -> Rows:
    """Return a fold number per row, (N,); others than those of the head's cross-validation."""
    corpus = run.training.corpus
    fold_N = stratified_folds(run.task.strata(corpus.targets), folds, seed=run.request.seed + 1)
    return keep_together(fold_N, corpus.groups.group_N)


def _split(name: str, source: EncodedRows, train: Rows, held: Rows, *, with_extra_rows: bool = True) -> Split:
    """Learn from `train` of the training rows, answer `held` of `source`."""
    targets = source.corpus.targets
    return Split(
        name,
        train,
        held,
        [source.corpus.inputs[row] for row in held],
        targets[held],
        [source.tokens[row] for row in held],
        {feature: values[units(targets, held)] for feature, values in source.features.items()},
        with_extra_rows,
    )


def fit_baseline(run: EncodedRun, first: FirstVersion, split: Split) -> HeadBaseline:
    """Fit the head with which every candidate is compared on this split, and the one from which it starts."""
    table = DesignMatrix(run.training.features, run.training.corpus.targets).take(split.train)
    head = selection.fit_final(table, first.label_names, first.choice, first_version.fit_context(run))
    logits_NK = head.logits(features.derive(split.held_features, first.choice.names))
    return HeadBaseline(head, _start(run, first, table, head), logits_NK, _ngram_logits(run, first, split))


def start_on_all(run: EncodedRun, first: FirstVersion) -> Head:
    """Return the head from which the fit on all rows starts."""
    return _start(run, first, DesignMatrix(run.training.features, run.training.corpus.targets), first.head)


def _start(run: EncodedRun, first: FirstVersion, table: DesignMatrix, head: Head) -> Head:
    """Return the head of these rows, fitted anew with the default penalty where that is the stronger.

    A head that is sure of every training row leaves the base nothing to learn (decision 0050).
    """
    default = run.task.link.default_inverse_penalty
    named = run.request.hyperparameters.regularization != "auto" or run.extra_rows is not None
    if named or first.choice.inverse_penalty <= default:
        return head
    choice = replace(first.choice, inverse_penalty=default)
    return selection.fit_final(table, first.label_names, choice, first_version.fit_context(run))


def _ngram_logits(run: EncodedRun, first: FirstVersion, split: Split) -> Floats | None:
    if first.stack is None or first.stack.part is None:
        return None
    corpus = run.training.corpus
    texts, held_texts = [str(corpus.inputs[row]) for row in split.train], [str(text) for text in split.held_inputs]
    targets, context = corpus.targets[split.train], first_version.fit_context(run)
    return stacking.refit(first.stack, texts, targets, held_texts, context)


def rows_of(run: EncodedRun, first: FirstVersion, split: Split) -> TrainingRows:
    """Return the rows that a fit on this split trains on and answers."""
    return _training_rows(run, first, split.train, split.held_tokens, with_extra_rows=split.with_extra_rows)


def all_rows(run: EncodedRun, first: FirstVersion) -> TrainingRows:
    """Return every row to train on, none held out."""
    return _training_rows(run, first, np.arange(len(run.training.corpus)), [], with_extra_rows=True)


def _training_rows(
    run: EncodedRun, first: FirstVersion, train: Rows, held_tokens: list[TokenizedInput], *, with_extra_rows: bool
) -> TrainingRows:
    """Return the rows to train on, the label names among them if they were chosen."""
    tokens = [run.training.tokens[row] for row in train]
    targets = run.training.corpus.targets[train]
    if run.extra_rows is not None and with_extra_rows:
        tokens += run.extra_rows.tokens
        targets = join([targets, run.extra_rows.corpus.targets])
    if first.choice.label_names and first.label_names is not None:
        tokens += zero_shot.label_name_tokens(run)
        targets = join([targets, first.label_names.targets])
    return TrainingRows(tokens, targets, held_tokens)
