"""What is refined after self-training has to beat it on the rows that both have answered."""

from __future__ import annotations

import numpy as np
import pytest

from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads.encoding import Measured
from models.learning.search import self_training
from models.learning.tasks.single_label import SingleLabel

CLASS_N = np.arange(20) % 2


def measured(right: range, rows: range) -> Measured:
    """A candidate that answered `rows` while they were held out, and got `right` of them right."""
    rows_N = np.array(rows)
    chosen_N = np.where(np.isin(rows_N, right), CLASS_N[rows_N], 1 - CLASS_N[rows_N])
    logits_NK = 4.0 * np.eye(2, dtype=np.float32)[chosen_N]
    held = HeldOut(CLASS_N[rows_N], None, rows_N=rows_N)
    return Measured(assess(logits_NK, held, SingleLabel(), seed=0), held)


@pytest.mark.parametrize(
    ("right", "rows", "beaten"),
    [
        (range(20), range(20), True),
        (range(15), range(20), False),  # as good is not better
        (range(10), range(10), False),  # all right, where self-training has all of those right, too
        (range(12, 20), range(12, 20), True),  # worse on all rows, better on those that both have answered
    ],
)
def test_only_what_is_better_on_the_same_rows_takes_its_place(right: range, rows: range, beaten: bool) -> None:
    own = measured(range(15), range(20))
    assert self_training.is_beaten(own, measured(right, rows)) is beaten
