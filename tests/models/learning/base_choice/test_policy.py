from __future__ import annotations

import pytest

from models.learning.base_choice import policy


@pytest.mark.parametrize(
    ("scores", "beaten", "chosen"),
    [
        ({"small": 0.60, "large": 0.90}, {"small": 1.0, "large": 0.5}, "large"),
        ({"small": 0.90, "large": 0.60}, {"small": 0.5, "large": 1.0}, "small"),
        ({"small": 0.88, "large": 0.90}, {"small": 0.8, "large": 0.5}, "small"),  # chance: the cheaper one
        ({"small": 0.50, "middle": 0.89, "large": 0.90}, {"small": 1.0, "middle": 0.7, "large": 0.5}, "middle"),
        ({"small": 0.90, "large": 0.90}, {"small": 0.5, "large": 0.5}, "small"),
        ({"only": 0.3}, {"only": 0.5}, "only"),
    ],
)
def test_the_best_is_taken_and_of_equal_ones_the_cheapest(scores, beaten, chosen):
    assert policy.pick(scores, beaten) == chosen


@pytest.mark.parametrize(
    ("earlier", "hopeless"),
    [
        ([], False),
        ([(1.0, 0.0)], False),  # once is chance
        ([(1.0, 0.0), (1.0, 0.02)], True),
        ([(0.3, 0.0)] * 3, False),  # jobs of another kind
        ([(1.0, 0.0), (1.0, 0.0), (1.0, 0.9)], False),  # it has won one
    ],
)
def test_a_base_is_passed_over_after_losing_in_jobs_like_this(earlier, hopeless):
    assert policy.is_hopeless(earlier) is hopeless
