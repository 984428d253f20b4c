from __future__ import annotations

import pytest

from models.learning import loss_curve
from models.learning.contract.events import CurvePoint


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 1_003])
def test_a_long_curve_is_thinned_and_keeps_its_ends_and_what_was_measured(steps: int) -> None:
    points = [CurvePoint(step, 1 / step, valid_loss=2.0 if step == 501 else None) for step in range(1, steps + 1)]
    kept = [point.step for point in loss_curve.thin(points, 4)]
    if steps <= 4:
        assert kept == list(range(1, steps + 1))
    else:
        assert kept == [1, 252, 501, 503, 754, 1_003]


def test_a_report_has_the_held_out_losses_that_there_are() -> None:
    found = loss_curve.describe([CurvePoint(1, 0.5, 0.25), CurvePoint(2, 0.25, valid_loss=0.75)])
    assert found == [{"step": 1, "train_loss": 0.5}, {"step": 2, "train_loss": 0.25, "validation_loss": 0.75}]
