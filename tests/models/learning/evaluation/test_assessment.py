from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from models.learning.data import folds
from models.learning.evaluation import scores
from models.learning.heads import cross_validation
from models.learning.heads.cross_validation import FitContext
from models.learning.tasks import class_figures, find
from models.learning.tasks.task import Tally, hits, shares


def _hits(values: list[int]) -> Tally:
    return hits(np.array(values, dtype=np.bool_))


def test_accuracy_has_wilsons_interval() -> None:
    score = scores.score(_hits([1] * 80 + [0] * 20))
    theirs = binomtest(80, 100).proportion_ci(method="wilson")
    assert (score.low, score.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)
    perfect = scores.score(_hits([1] * 10))
    assert perfect.high == pytest.approx(1.0)
    assert perfect.low < 0.8


def test_an_interval_holds_its_own_score() -> None:
    for rows in range(1, 200):
        for right in (0, rows):
            found = scores.score(_hits([1] * right + [0] * (rows - right)))
            assert 0.0 <= found.low <= found.value <= found.high <= 1.0
    # Where every row scores the same, draws of them differ from all of them in the last place.
    for rows in (50, 100, 200):
        tally, other = shares(np.full(rows, 0.1), np.ones(rows)), shares(np.full(rows, 0.3), np.ones(rows))
        found = scores.score(tally)
        for each in (found, found.widened(1.5)):
            assert each.low <= each.value <= each.high
        compared = scores.compare(tally, other)
        assert compared.low <= compared.gain <= compared.high


def test_pairs_are_compared_row_by_row() -> None:
    old, new = [1] * 50 + [0] * 50, [1] * 50 + [1] * 10 + [0] * 40
    comparison = scores.compare(_hits(new), _hits(old))
    assert comparison.gain == pytest.approx(0.1)
    assert comparison.low > 0
    assert comparison.probability > 0.99
    assert comparison.p_value == pytest.approx(binomtest(0, 10).pvalue)
    same = scores.compare(_hits(old), _hits(old))
    assert (same.gain, same.p_value, same.probability) == (0.0, 1.0, 0.5)


def test_micro_f1_of_a_tally() -> None:
    task = find("multi-label-classification")
    targets = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 0]], dtype=np.float32)
    chosen = np.array([[True, False, False], [False, True, False], [True, True, False]])
    assert task.tally(targets, chosen).score == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))


def test_per_class_and_confusion() -> None:
    targets = np.array([0, 0, 1, 1, 1])
    chosen = np.eye(2, dtype=np.bool_)[[0, 1, 1, 1, 1]]
    first, second = class_figures.per_class(targets, chosen, ["a", "b"])
    assert first == {"label": "a", "precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2}
    assert second["precision"] == 0.75
    confusion = class_figures.confusion(targets, chosen, ["a", "b"])
    assert confusion is not None
    assert confusion["matrix"] == [[1, 1], [0, 3]]


def test_calibration_error_of_a_liar() -> None:
    probabilities = np.tile(np.array([[0.9, 0.1]], dtype=np.float32), (100, 1))
    targets = np.array([0] * 50 + [1] * 50)
    assert class_figures.expected_calibration_error(targets, probabilities) == pytest.approx(0.4, abs=1e-6)


def test_folds_are_stratified_and_seeded() -> None:
    strata = np.repeat([0, 1, 2], [50, 10, 5])
    found = folds.stratified_folds(strata, 5, seed=3)
    for stratum, size in ((0, 10), (1, 2), (2, 1)):
        assert np.bincount(found[strata == stratum], minlength=5).tolist() == [size] * 5
    assert np.array_equal(found, folds.stratified_folds(strata, 5, seed=3))
    assert not np.array_equal(found, folds.stratified_folds(strata, 5, seed=4))
    train, held = folds.splits(found)[2]
    assert sorted([*train, *held]) == list(range(65))


def test_thresholds_follow_the_evidence() -> None:
    task = find("multi-label-classification")
    generator = np.random.default_rng(0)
    targets = (generator.uniform(size=(400, 2)) < 0.3).astype(np.float32)
    probabilities = np.where(targets > 0, 0.35, 0.1).astype(np.float32)
    thresholds = task.tune_thresholds(targets, probabilities)
    assert thresholds is not None
    assert ((thresholds > 0.1) & (thresholds < 0.35)).all()
    assert task.tune_thresholds(np.zeros((5, 2), np.float32), probabilities[:5]) == pytest.approx([0.5, 0.5])


def test_thresholds_are_tuned_for_f1_over_all_labels() -> None:
    task = find("multi-label-classification")
    generator = np.random.default_rng(1)
    true = (generator.uniform(size=(2_000, 2)) < (0.4, 0.05)).astype(np.float32)
    # The second label is rare and hardly found: its own F1 is best where nearly every row is given it.
    logits = np.where(true > 0, 1.5, -1.5) * (1.0, 0.2) + generator.normal(0, 1, true.shape)
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    thresholds = task.tune_thresholds(true, probabilities)
    assert thresholds is not None
    micro = task.tally(true, task.decide(probabilities, thresholds)).score
    grid = np.arange(0.1, 0.91, 0.1, dtype=np.float32)
    best = max(
        task.tally(true, task.decide(probabilities, np.array([first, second], np.float32))).score
        for first in grid
        for second in grid
    )
    assert micro >= best - 0.005
    assert micro > task.tally(true, task.decide(probabilities, None)).score + 0.02


def test_a_penalty_is_judged_at_the_thresholds_that_are_published() -> None:
    task = find("multi-label-classification")
    true = (np.arange(400)[:, None] % 2 == (0, 1)).astype(np.float32)
    context = FitContext(task, 2, torch.device("cpu"), threads=1, seed=0, stop=bool)
    # All right in order, though no positive is over one half, as under a strong penalty.
    logits = np.where(true > 0, -0.4, -1.2).astype(np.float32)
    assert cross_validation.measure("set", logits, true, 1.0, False, context).score == 1.0


def test_the_usual_class_may_be_asked_of_rows_of_a_class_that_was_not_learned() -> None:
    task = find("text-classification")
    chosen = task.majority(np.array([0, 0, 1]), held := np.array([0, 2]))
    assert task.tally(held, chosen).score == 0.5
