"""The best moment of a refined model and what it is compared with."""

from __future__ import annotations

import pytest

from models.learning.search import policy

from .answers import results, trial


def test_the_best_moment_is_compared_with_the_head_on_the_same_rows() -> None:
    best = results((1, 1.0, 60), (2, 1.0, 20), (2, 0.5, 40), head=50).best_moment()
    assert (best.epochs, best.blend) == (2, 1.0)
    assert best.new.score.value == pytest.approx(1 - 20 / 300)
    assert best.old.score.value == pytest.approx(1 - 50 / 300)
    assert best.comparison.gain == pytest.approx(30 / 300)
    assert best.error_reduction == pytest.approx(30 / 50)
    assert [(point["epoch"], point["blend"], point["training_loss"]) for point in best.curve] == [
        (1, 1.0, 1.0), (2, 1.0, 0.5), (2, 0.5, 0.5),
    ]  # fmt: skip
    assert best.figures.answers == 300
    assert policy.improves(best.figures)
    assert not policy.is_hopeless(best.figures)


def test_a_number_of_epochs_that_was_asked_for_is_kept() -> None:
    moments = ((1, 1.0, 20), (2, 1.0, 60), (2, 0.5, 40))
    assert results(*moments, head=50).best_moment().epochs == 1
    asked = results(*moments, head=50, to_the_end=True).best_moment()
    assert (asked.epochs, asked.blend) == (2, 0.5)
    assert asked.new.score.value == pytest.approx(1 - 40 / 300)
    assert [point["epoch"] for point in asked.curve] == [1, 2, 2]


def test_one_that_is_worse_than_the_head_is_hopeless() -> None:
    worse = trial(wrong=120, head=30)
    assert worse.error_reduction == pytest.approx(-90 / 30)
    assert worse.figures.new_loss > worse.figures.old_loss
    assert not policy.improves(worse.figures)
    assert policy.is_hopeless(worse.figures)
