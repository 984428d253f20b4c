"""Intervals of scores out of fold: how often they hold the score on rows that nobody has seen."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from models.learning.data.folds import splits, stratified_folds
from models.learning.evaluation import scores
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.evaluation.scores import Score
from models.learning.tasks.regression import Regression
from models.learning.tasks.task import Tally

_ROWS, _WIDTH, _DRAWS = 80, 12, 60


@pytest.mark.slow
def test_the_interval_of_five_folds_holds_the_score_on_rows_to_come() -> None:
    """Models of few rows differ from sample to sample: rows drawn anew are not all that is uncertain."""
    generator = np.random.default_rng(0)
    slope_F = generator.normal(0, 0.5, _WIDTH)
    held = narrow = 0
    for seed in range(_DRAWS):
        features_NF = generator.normal(size=(_ROWS + 2_000, _WIDTH))
        label_N = (features_NF @ slope_F + generator.normal(0, 1, len(features_NF)) > 0).astype(np.int64)
        known_NF, known_N = features_NF[:_ROWS], label_N[:_ROWS]
        fold_N = stratified_folds(known_N, 5, seed=seed)
        hits_N = np.zeros(_ROWS, dtype=np.bool_)
        for train, test in splits(fold_N):
            model = LogisticRegression().fit(known_NF[train], known_N[train])
            hits_N[test] = model.predict(known_NF[test]) == known_N[test]
        tally = Tally(np.stack([hits_N, np.ones(_ROWS)], axis=1).astype(float), _rate, hits_N)
        rows = scores.score(tally)
        found = rows.widened(HeldOut.out_of_fold(known_N, fold_N, None).spread)
        to_come = LogisticRegression().fit(known_NF, known_N).score(features_NF[_ROWS:], label_N[_ROWS:])
        held += found.low <= to_come <= found.high
        narrow += rows.low <= to_come <= rows.high
    assert held >= 0.95 * _DRAWS
    assert narrow < held


def test_rows_of_a_validation_file_are_all_that_is_uncertain_there() -> None:
    assert HeldOut(np.zeros(100), None, validated=True).spread == 1.0
    assert HeldOut(np.zeros(100), np.arange(100) % 5, learned_from=80).spread == pytest.approx(1.5)
    assert HeldOut(np.zeros(20), None, learned_from=80).spread == pytest.approx(1.25**0.5)


def test_a_wider_interval_stays_where_a_score_can_be() -> None:
    assert Score(0.9, 0.8, 0.97).widened(2.0) == Score(0.9, pytest.approx(0.7), 1.0)
    assert Score(0.1, 0.02, 0.3).widened(2.0) == Score(0.1, 0.0, pytest.approx(0.5))
    assert Score(0.1, -0.2, 0.4).widened(2.0, least=-1.0) == Score(0.1, pytest.approx(-0.5), pytest.approx(0.7))
    assert Score(0.2, 0.1, 0.4).widened(4.0, least=-1.0).low == pytest.approx(-0.2)


def test_a_correlations_interval_ends_at_minus_one() -> None:
    """Folds of few rows, answered the wrong way round: `graft job` showed -1.058."""
    values_N = np.arange(12.0)
    task = Regression().bind(values_N.tolist())
    targets_N1 = task.encode(values_N.tolist(), ())
    answers_N1 = -targets_N1 + np.random.default_rng(0).normal(0, 0.6, targets_N1.shape).astype(np.float32)
    for group_N in (None, np.arange(12) // 2):
        held = HeldOut.out_of_fold(targets_N1, np.arange(12) % 5, group_N)
        found = assess(answers_N1, held, task, seed=0)
        assert found.interval.low == -1.0 < found.score.low < found.interval.value < found.interval.high


def _rate(sums_RJ: np.ndarray) -> np.ndarray:
    return sums_RJ[..., 0] / sums_RJ[..., 1]
