"""What the command line says of a report."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.cli.reports import refinement_line


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"left_at": "trained on all rows", "improves": True}, "better in its trial, trained on all rows"),
        (
            {"left_at": "trained on all rows", "improves": False},
            "no better than the first version in its trial, but asked for: trained on all rows",
        ),
        ({"left_at": "trained on all rows"}, "trained on all rows"),  # of an earlier release
        ({"left_at": "trial", "improves": False}, "no better than the first version in its trial"),
        ({"left_at": "rung 2", "improves": None}, "behind the others on rung 2"),
    ],
)
def test_what_became_of_a_candidate(entry: dict[str, Any], said: str) -> None:
    assert refinement_line({"refinement": {"candidates": [{"name": "lora", **entry}]}}) == f"lora: {said}"
