"""Pseudo-labels: rows without labels get those that the head is sure of, and the head learns from them, in rounds.

Lee, "Pseudo-Label" (2013); Amini et al., "Self-Training: A Survey" (arXiv:2202.12040). Two things decide whether it
helps. A head that learns from what it knew before learns little: its probabilities are first spread over each row's
neighbours (`label_spreading`). And the easiest classes must not crowd out the others: of each, no more rows are taken
than it has by its share of the training rows (Zou et al., arXiv:1810.07911). What comes out is the mean of the head
before and after. Measurements: decision 0039.

Held-out rows are never taught by what saw their labels: each fold's teacher is fitted to the fold's own training rows,
with a temperature that is found on those, and labels rows for that fold's student alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones.parallel import in_parallel
from models.learning.data import features
from models.learning.data.folds import keep_together, splits, stratified_folds
from models.learning.evaluation import calibration
from models.learning.heads import first_version, label_spreading, linear, selection
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Floats, Head

ROUNDS = 3
# Of the spread probability. Measured from 0 to 0.6 in steps of 0.2: up to 0.4 within 0.2 points of one another.
CONFIDENCE = 0.4
# Of each kind of rows in the graph: the similarities of ten thousand take seconds.
MOST_ROWS = 5_000
_NEIGHBOURS, _SHARE = 10, 0.5
_TEMPERATURE_FOLDS = 3
# Of the last student; the rest is the head that was fitted to labels alone (arXiv:2109.01903). Both together are as
# accurate on test rows as the student, and their held-out loss is lower than the head's, which the student's is not.
BLEND = 0.5

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Taught:
    """A head's weights, one (K, R + 1) per member of the mean, and how many rows each round took."""

    weights: list[Tensor]
    taken: tuple[int, ...]


class Students:
    """Heads on labelled rows and on pseudo-labelled ones. Rows are prepared once: labelled, label names, unlabelled."""

    def __init__(self, run: EncodedRun, first: FirstVersion, unlabeled: dict[str, Floats]) -> None:
        self._run, self._choice, self._context = run, first.choice, first_version.fit_context(run)
        corpus = run.training.corpus
        parts: list[Mapping[str, Floats]] = [run.training.features]
        targets = [corpus.targets]
        if first.choice.label_names and first.label_names is not None:
            parts.append(first.label_names.features)
            targets.append(first.label_names.targets)
        self._targets: Ints = np.concatenate(targets)
        self._always = np.arange(len(corpus), len(self._targets))  # label names are never held out
        self._unlabeled = np.arange(len(next(iter(unlabeled.values())))) + len(self._targets)
        joined = {name: np.concatenate([*(part[name] for part in parts), own]) for name, own in unlabeled.items()}
        # The rotation sees the held-out rows' features, never their targets, as in cross-validation.
        self._designs = [
            linear.prepare(features.derive(joined, names), device=self._context.device)
            for names in first.choice.members
        ]
        self._probe_NF = joined[features.plain([run.backbone.probe(run.backbone.blocks)])[0]]

    def out_of_fold(self) -> Floats:
        """Return the logits of all training rows, each by a student that never saw its label, (N, K)."""
        logits_NK = np.zeros((len(self._run.training.corpus), self._run.outputs), dtype=np.float32)

        def answer_fold(part: tuple[Ints, Ints]) -> None:
            train, held = part
            logits_NK[held] = self._logits(self.teach(train).weights, held)

        for _ in in_parallel(answer_fold, splits(self._choice.fold_N), threads=self._context.threads):
            pass
        return logits_NK

    def _temperature(self, rows: Ints) -> float:
        """Return the temperature of heads on parts of these rows, each answering another part.

        Not of the first version's out-of-fold logits: those heads have seen the labels that `rows` leave out.
        """
        corpus, seed = self._run.training.corpus, self._run.request.seed
        fold_N = stratified_folds(self._targets[rows], _TEMPERATURE_FOLDS, seed=seed)
        fold_N = keep_together(fold_N, corpus.groups.group_N[rows])
        logits_NK = np.zeros((len(rows), self._run.outputs), dtype=np.float32)
        for train, held in splits(fold_N):
            labelled = np.concatenate([rows[train], self._always])
            logits_NK[held] = self._logits(self._fit(labelled, self._targets[labelled], None), rows[held])
        return calibration.fit_temperature(logits_NK, self._targets[rows], self._run.task.link)

    def teach(self, train: Ints) -> Taught:
        """Fit a head to some training rows, then again and again with the rows that it is sure of."""
        temperature, labelled = self._temperature(train), np.concatenate([train, self._always])
        graph_rows = np.concatenate([self._graph_rows(labelled), self._unlabeled])
        graph_NN = label_spreading.neighbour_graph(self._probe_NF[graph_rows], _NEIGHBOURS, self._context.check_stop)
        known = len(graph_rows) - len(self._unlabeled)
        known_NK = np.zeros((len(graph_rows), self._run.outputs), dtype=np.float32)
        known_NK[np.arange(known), self._targets[graph_rows[:known]]] = 1.0
        shares_K = np.bincount(self._targets[train], minlength=self._run.outputs) / len(train)
        before, taken = self._fit(labelled, self._targets[labelled], None), []
        weights = before
        for _ in range(ROUNDS):
            logits_UK = self._logits(weights, self._unlabeled)
            known_NK[known:] = calibration.probabilities(logits_UK, self._run.task.link, temperature)
            spread_UK = label_spreading.spread(graph_NN, known_NK, _SHARE)[known:]
            chosen = choose(spread_UK, shares_K, CONFIDENCE)
            if not len(chosen):
                break
            taken.append(len(chosen))
            rows = np.concatenate([labelled, self._unlabeled[chosen]])
            targets = np.concatenate([self._targets[labelled], spread_UK[chosen].argmax(1)])
            weights = self._fit(rows, targets, weights)
        blended = [own + BLEND * (new - own) for own, new in zip(before, weights, strict=True)]
        return Taught(blended, tuple(taken))

    def head(self, taught: Taught) -> Head:
        """Return the head on raw features: the mean of its members."""
        members = [design.unfold(own) for design, own in zip(self._designs, taught.weights, strict=True)]
        widths = {name: features.width(self._run.training.features, name) for name in self._choice.names}
        return selection.mean_head(list(zip(self._choice.members, members, strict=True)), self._choice.names, widths)

    def _graph_rows(self, labelled: Ints) -> Ints:
        """Return the labelled rows that take part in the graph: all of them, or evenly spaced ones."""
        if len(labelled) <= MOST_ROWS:
            return labelled
        return labelled[np.linspace(0, len(labelled) - 1, MOST_ROWS).astype(np.int64)]

    def _fit(self, rows: Ints, targets: Ints, start: list[Tensor] | None) -> list[Tensor]:
        context = self._context
        objective = linear.Objective(context.task.link, context.outputs, self._choice.inverse_penalty)
        encoded = torch.from_numpy(targets).to(context.device)
        fitted = []
        for member, design in enumerate(self._designs):
            context.check_stop()
            fitted.append(
                linear.fit(
                    design.rows(rows),
                    encoded,
                    objective,
                    variance_R=design.variance_R,
                    start=None if start is None else start[member],
                    check_stop=context.check_stop,
                )
            )
        return fitted

    def _logits(self, weights: list[Tensor], rows: Ints) -> Floats:
        answers = [
            (design.rows(rows) @ own[:, :-1].T + own[:, -1]).cpu().numpy()
            for design, own in zip(self._designs, weights, strict=True)
        ]
        mean_NK: Floats = np.mean(answers, axis=0, dtype=np.float32)
        return mean_NK


def choose(probabilities_UK: Floats, shares_K: NDArray[np.float64], confidence: float) -> Ints:
    """Return the rows to learn from, in order: each class's most certain ones, no more than its share of all rows."""
    labels_U, sure_U = probabilities_UK.argmax(1), probabilities_UK.max(1)
    chosen = []
    for label, expected in enumerate(shares_K * len(labels_U)):
        rows = np.flatnonzero((labels_U == label) & (sure_U >= confidence))
        most = max(1, math.ceil(expected))
        chosen.append(rows[np.argsort(-sure_U[rows], kind="stable")][:most])
    return np.sort(np.concatenate(chosen))
