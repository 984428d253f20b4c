"""The best moment of a refined model and what it is compared with, from answers that are written down here."""

from __future__ import annotations

import numpy as np
import pytest

from models.learning import tasks
from models.learning.search import policy
from models.learning.search.held_out import HeldOutResults

TARGETS_N = np.arange(300) % 3


def _logits(wrong: int, *, margin: float) -> np.ndarray:
    """Answers of which the first `wrong` ones are wrong, all with the same margin."""
    answers_N = TARGETS_N.copy()
    answers_N[:wrong] = (answers_N[:wrong] + 1) % 3
    return margin * np.eye(3, dtype=np.float32)[answers_N]


def _results(*moments: tuple[int, float, int], head: int) -> HeldOutResults:
    """Each moment's epoch, blend and number of wrong answers; two splits, one half of the rows each."""
    results = HeldOutResults(tasks.find("text-classification"), None, seed=0)
    for split in (slice(0, 150), slice(150, 300)):
        results.begin_split(TARGETS_N[split], _logits(head, margin=2.0)[split], None)
        for epoch, blend, wrong in moments:
            loss = 1.0 / epoch if blend == 1.0 else None
            results.add(epoch, blend, _logits(wrong, margin=2.0)[split], loss)
    return results


def test_the_best_moment_is_compared_with_the_head_on_the_same_rows() -> None:
    trial = _results((1, 1.0, 60), (2, 1.0, 20), (2, 0.5, 40), head=50).best_moment()
    assert (trial.epochs, trial.blend) == (2, 1.0)
    assert trial.new.score.value == pytest.approx(1 - 20 / 300)
    assert trial.old.score.value == pytest.approx(1 - 50 / 300)
    assert trial.comparison.gain == pytest.approx(30 / 300)
    assert trial.error_reduction == pytest.approx(30 / 50)
    assert [(point["epoch"], point["blend"], point["training_loss"]) for point in trial.curve] == [
        (1, 1.0, 1.0), (2, 1.0, 0.5), (2, 0.5, 0.5),
    ]  # fmt: skip
    assert trial.figures.rows == 300
    assert policy.improves(trial.figures)
    assert not policy.is_hopeless(trial.figures)


def test_one_that_is_worse_than_the_head_is_hopeless() -> None:
    trial = _results((1, 1.0, 120), head=30).best_moment()
    assert trial.error_reduction == pytest.approx(-90 / 30)
    assert trial.new_loss > trial.old_loss
    assert not policy.improves(trial.figures)
    assert policy.is_hopeless(trial.figures)
