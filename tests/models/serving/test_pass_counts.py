from __future__ import annotations

from models.serving.pass_counts import Distribution


def test_a_distribution_counts_what_is_no_larger_than_each_bound() -> None:
    waits = Distribution((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        waits.observe(value)
    assert waits.cumulative() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert waits.total == 7.65
