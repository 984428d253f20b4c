"""What is held out: every fold has rows, and no row has its double among those that are learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.learning.data.folds import keep_together, stratified_folds
from models.learning.data.ragged import Ragged
from models.learning.heads import selection
from models.learning.heads.cross_validation import DesignMatrix, FitContext
from models.learning.heads.selection import PenaltyStart
from models.learning.tasks import encoder_task, find


def test_an_input_and_its_double_are_held_out_together() -> None:
    alike_N = np.arange(300) % 240  # the last sixty repeat the first
    dealt_N = stratified_folds(np.arange(300) % 4, 5, seed=0)
    fold_N = keep_together(dealt_N, alike_N)
    assert (fold_N[:60] == fold_N[240:]).all()
    assert (fold_N[:240] == dealt_N[:240]).all()
    assert np.bincount(fold_N).min() >= 30


def test_folds_stay_as_they_are_where_nothing_repeats_or_nearly_everything_does() -> None:
    dealt_N = stratified_folds(np.zeros(40, dtype=np.int64), 5, seed=0)
    assert (keep_together(dealt_N, np.arange(40)) == dealt_N).all()
    assert (keep_together(dealt_N, np.arange(40) % 2) == dealt_N).all()


# So many words that the rows of the walk are one of as many parts as there are folds.
@pytest.mark.slow
@pytest.mark.parametrize(("rows", "words"), [(4_000, 25), (5_000, 12)])
def test_words_are_learned_whatever_their_number(rows: int, words: int) -> None:
    generator = np.random.default_rng(0)
    tags_U = generator.integers(0, 2, rows * words)
    features_UD = np.stack([tags_U, generator.normal(size=len(tags_U))], axis=1).astype(np.float32)
    table = DesignMatrix({"a": features_UD}, Ragged.of(tags_U, np.full(rows, words)))
    task, device = encoder_task(find("token-classification")), torch.device("cpu")
    context = FitContext(task, 3, device, threads=1, seed=0, stop=lambda: False)
    choice = selection.choose(table, None, {"a": ("a",)}, context, PenaltyStart(), np.arange(rows))
    assert choice.logits_NK.shape == (rows * words, 3)
    assert (choice.logits_NK.argmax(1) == tags_U).mean() > 0.99


def test_large_groups_are_dealt_out_evenly() -> None:
    group_N = np.repeat(np.arange(7), [30, 20, 20, 10, 10, 5, 5])
    fold_N = keep_together(stratified_folds(np.zeros(100, dtype=np.int64), 5, seed=0), group_N)
    assert all(len(np.unique(fold_N[group_N == group])) == 1 for group in range(7))
    assert np.bincount(fold_N).min() >= 10
