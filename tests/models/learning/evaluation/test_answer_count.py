"""How many answers a score counts: rows, or what a row has several of."""

from __future__ import annotations

import numpy as np
import pytest

from models.learning.evaluation import answer_count, scores
from models.learning.tasks.task import Tally, hits, shares


def counted(tally: Tally) -> float:
    return answer_count.count(tally, scores.score(tally, seed=0))


def test_rows_that_are_right_or_wrong_count_once() -> None:
    assert counted(hits(np.arange(300) % 4 > 0)) == 300
    assert counted(hits(np.ones(300, dtype=np.bool_))) == 300


def test_a_sentence_of_many_spans_counts_as_many() -> None:
    right_N = np.random.default_rng(0).binomial(8, 0.7, 200)
    assert counted(shares(2 * right_N, np.full(200, 16))) == pytest.approx(1_600, rel=0.2)


def test_spans_that_are_right_together_count_once() -> None:
    right_N = 8 * np.random.default_rng(0).binomial(1, 0.7, 200)
    assert counted(shares(2 * right_N, np.full(200, 16))) == pytest.approx(200, rel=0.2)


def test_sentences_without_any_span_hardly_count() -> None:
    there_N = np.arange(1_000) % 5 == 0
    right_N = there_N & (np.random.default_rng(0).uniform(size=1_000) < 0.7)
    assert counted(shares(2 * right_N, 2 * there_N)) == pytest.approx(200, rel=0.3)


def test_without_an_interval_rows_count() -> None:
    assert counted(shares(np.zeros(50), np.ones(50))) == 50
