"""The toy's learner: no head, no gradients, the training rows themselves. Few of them first, then all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.backbones.loading import Backbone
from models.learning.contract.events import Progress, TrainEvent
from models.learning.contract.request import TrainRequest
from models.learning.data.folds import keep_together, splits, stratified_folds, subsample
from models.learning.evaluation import scores
from models.learning.evaluation.scores import Evaluation
from models.learning.publishing import Trained, publish
from models.learning.run import Run
from models.learning.tasks.task import Tally
from tests.models.neighbours.rows import NeighbourRows

FEW = 6  # rows of the first version


class NeighbourLearner:
    """Implements `models.learning.learner.Learner`."""

    def check(self, request: TrainRequest, backbone: Backbone) -> None:
        """Any base has tokens."""

    def train(self, run: Run) -> Iterator[TrainEvent]:
        """Publish a version of few rows at once, and that of all rows if it answers more held-out rows rightly."""
        corpus, seed = run.training, run.request.seed
        ids = [row.tolist() for row in run.backbone.tokenize(corpus.inputs)]
        strata_N = run.task.strata(corpus.targets)
        fold_N = keep_together(stratified_folds(strata_N, 4, seed=seed), corpus.groups.group_N)
        majority = run.task.tally(corpus.targets, run.task.majority(corpus.targets, corpus.targets)).score
        run.report.state(
            **run.describe(corpus, tokens=sum(map(len, ids))), baseline={"majority": majority, "gate": majority}
        )
        best: Tally | None = None
        for name, rows in (("few", subsample(strata_N, FEW, seed=seed)), ("all", np.arange(len(corpus)))):
            tally = _measure(run, [frozenset(row) for row in ids], rows, fold_N)
            score = scores.score(tally, seed=seed)
            run.report.add_tried(name, score=score.value)
            yield Progress("fitting", 50.0, metrics={"score": score.value})
            if best is None or scores.compare(tally, best, seed=seed).probability > 0.9:
                figures = scores.describe(score, metric=run.task.metric, rows=len(corpus), validated=False)
                part = NeighbourRows.of(
                    [ids[row] for row in rows], [str(corpus.inputs[row]) for row in rows], corpus.targets[rows].tolist()
                )
                yield publish(run, Trained(name, (part,), Evaluation(score, figures)), improves=True)
                best = tally


def _measure(run: Run, token_sets: list[frozenset[int]], rows: NDArray[np.int64], fold_N: NDArray[np.int64]) -> Tally:
    """Fold by fold, the label of the nearest of `rows` that is not held out."""
    targets = run.training.targets
    chosen_N = np.full(len(targets), -1)
    for train, held in splits(fold_N):
        run.check_stop()
        known = np.intersect1d(train, rows)
        for row in held if len(known) else ():
            own = token_sets[row]
            nearness = [len(own & token_sets[other]) / max(len(own | token_sets[other]), 1) for other in known]
            chosen_N[row] = targets[known[int(np.argmax(nearness))]]
    return run.task.tally(targets, chosen_N)
