"""Which rows a fit learns from and which it answers, and all that a fit on a part of the rows needs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

from models.backbones.backbone import Row
from models.datasets.examples import Input
from models.learning.data import features
from models.learning.data.folds import Rows, keep_together, splits, stratified_folds, subsample
from models.learning.data.ragged import Ragged, flat, join, units
from models.learning.finetuning.checkpoints import Checkpoints
from models.learning.finetuning.network import Network, build
from models.learning.finetuning.training_loop import TrainingRows
from models.learning.heads import first_version, selection, stacking
from models.learning.heads.cross_validation import DesignMatrix
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Floats, Head
from models.learning.run import Rows as EncodedRows
from models.learning.run import Run
from models.learning.search.candidates import Candidate
from models.learning.search.policy import Rung, TrialPlan
from models.learning.tasks.task import Targets


@dataclass(frozen=True, slots=True)
class Part:
    """Rows to learn from, and the held-out rows that the head of those rows and its refined successor answer."""

    name: str  # of its checkpoints
    train: Rows
    held_inputs: list[Input]
    held_targets: Targets | Ragged
    held_tokens: list[Row]
    held_features: dict[str, Floats]
    with_surplus: bool = True  # rows beyond those of the head are learned from, too

    def material(self, run: Run, first: FirstVersion) -> TrainingRows:
        """For the training loop."""
        return material_of(run, first, self.train, self.held_tokens, with_surplus=self.with_surplus)


def open_parts(run: Run, plan: TrialPlan) -> list[Part]:
    """The parts that trials hold out in turn; the validation file, if there is one, is the only one."""
    everything = np.arange(len(run.training.corpus))
    if run.validation is not None:
        return [_part("trial-0", run.validation, everything, np.arange(len(run.validation.corpus)))]
    fold_N = _fold(run, plan)
    return [
        _part(f"trial-{number}", run.training, train, held)
        for number, (train, held) in enumerate(splits(fold_N)[: plan.used])
    ]


def open_rung(run: Run, plan: TrialPlan, rung: Rung) -> Part:
    """The first part of the trials, or so many rows of it."""
    name, seed, strata_N = f"rung-{rung.number}", run.request.seed, run.task.strata(run.training.corpus.targets)
    if run.validation is not None:
        held = subsample(run.task.strata(run.validation.corpus.targets), rung.held, seed=seed)
        train = subsample(strata_N, rung.rows, seed=seed)
        return _part(name, run.validation, train, held, with_surplus=False)
    train, held = splits(_fold(run, plan))[0]
    train = train[subsample(strata_N[train], rung.rows, seed=seed)]
    held = held[subsample(strata_N[held], rung.held, seed=seed)]
    return _part(name, run.training, train, held, with_surplus=False)


def _fold(run: Run, plan: TrialPlan) -> Rows:
    corpus = run.training.corpus
    return keep_together(
        stratified_folds(run.task.strata(corpus.targets), plan.folds, seed=run.request.seed + 1), corpus.alike_N
    )


def _part(name: str, source: EncodedRows, train: Rows, held: Rows, *, with_surplus: bool = True) -> Part:
    """Learn from `train` of the training rows, answer `held` of `source`."""
    targets = source.corpus.targets
    return Part(
        name,
        train,
        [source.corpus.inputs[row] for row in held],
        targets[held],
        [source.tokens[row] for row in held],
        {feature: values[units(targets, held)] for feature, values in source.features.items()},
        with_surplus,
    )


@dataclass(frozen=True, slots=True)
class HeadBaseline:
    """The first version fitted to a part's rows alone, and what it says of the held-out ones."""

    head: Head
    logits_NK: Floats
    lexical_NK: Floats | None  # None if it has no lexical part


def stand_of(run: Run, first: FirstVersion, part: Part) -> HeadBaseline:
    """Where every candidate begins that is fitted to this part."""
    table = DesignMatrix(run.training.features, run.training.corpus.targets).take(part.train)
    head = selection.fit_final(table, first.label_names, first.choice, first_version.setting(run))
    logits_NK = head.logits(features.derive(part.held_features, first.choice.names))
    return HeadBaseline(head, logits_NK, _lexical(run, first, part))


def _lexical(run: Run, first: FirstVersion, part: Part) -> Floats | None:
    if first.stack is None or first.stack.part is None:
        return None
    corpus = run.training.corpus
    texts, held_texts = [str(corpus.inputs[row]) for row in part.train], [str(text) for text in part.held_inputs]
    targets, shared = corpus.targets[part.train], first_version.setting(run)
    return stacking.refit(first.stack, texts, targets, held_texts, shared, seed=run.request.seed)


def network_of(run: Run, first: FirstVersion, candidate: Candidate, head: Head, train: Rows) -> Network:
    """A network that starts as the base with `head`, standardised by the training rows."""
    where = units(run.training.corpus.targets, train)
    plain = {name: values[where] for name, values in run.training.features.items()}
    features_NF = features.derive(plain, first.choice.names)
    return build(run.backbone, candidate.schedule, first.choice.names, head, features_NF, seed=run.request.seed)


def material_of(
    run: Run, first: FirstVersion, train: Rows, held_tokens: list[Row], *, with_surplus: bool = True
) -> TrainingRows:
    """The rows to train on, the label names among them if they were chosen."""
    tokens = [run.training.tokens[row] for row in train]
    targets = run.training.corpus.targets[train]
    if run.surplus is not None and with_surplus:
        tokens += run.surplus.tokens
        targets = join([targets, run.surplus.corpus.targets])
    if first.choice.label_names and first.label_names is not None:
        tokens += first_version.label_name_tokens(run)
        targets = join([targets, first.label_names.targets])
    return TrainingRows(tokens, targets, held_tokens)


def checkpoints_of(run: Run, candidate: Candidate, fit: str, rows: Rows) -> Checkpoints | None:
    """Where one fit of this very run keeps its state, None if the request says nowhere."""
    folder = run.request.checkpoint_dir
    if folder is None:
        return None
    what = {
        "rows": run.training.corpus.digest,
        "of_them": hashlib.sha256(rows.tobytes()).hexdigest(),
        "targets": hashlib.sha256(flat(run.training.corpus.targets).tobytes()).hexdigest(),
        "base": run.backbone.revision,
        "precision": str(run.backbone.dtype),
        "schedule": repr(candidate.schedule),
        "seed": run.request.seed,
        "fit": fit,
    }
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Checkpoints(folder / f"{candidate.name}-{fit}", fingerprint)
