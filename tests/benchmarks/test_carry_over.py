"""What remembering saves: the same job alone, and told of two earlier jobs on other rows of the same kind of data.

The earlier jobs are real ones, on draws that share their situation with the one that is measured. What they leave is
what the records keep: numbers. `make bench-carry-over` prints the table: rows passed through the base, and seconds of
the whole job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from models.backbones.loading import Backbone
from models.learning.experience import Outcome
from tests.benchmarks import regret, regret_cells, results, task_sets
from tests.benchmarks.regret_cells import Cell

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]
_NAMES = ("banking77_5", "trec_100", "xquad_de_3")
_CELLS = [cell for cell in regret_cells.cells() if cell.name in _NAMES]
_BUDGET_S = 600.0
_RESULT = "carry_over"


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    """By cell: the job alone and the job that was told."""
    return {}


@pytest.mark.parametrize("cell", _CELLS, ids=lambda cell: cell.name)
def test_cell(cell: Cell, base: Callable[[str], Backbone], found: dict[str, dict[str, Any]]) -> None:
    def search(draw: int, experience: tuple[Outcome, ...] = ()) -> dict[str, Any]:
        seed = task_sets.SEED + draw
        return regret.run(
            cell.data(draw), "auto", base(cell.base), budget_s=_BUDGET_S, seed=seed, experience=experience
        )

    alone, *earlier = (search(draw) for draw in range(3))
    known = tuple(Outcome.from_dict(outcome) for run in earlier for outcome in run["outcomes"])
    found[cell.name] = {"alone": alone, "told": search(0, known)}


def test_the_table(found: dict[str, dict[str, Any]]) -> None:
    """The last: what it cost, and what it reached."""
    if not found:
        pytest.skip("no cell was run")
    table = [
        [
            name,
            f"{pair['alone']['made']} {pair['alone']['score']:.4f}",
            f"{pair['told']['made']} {pair['told']['score']:.4f}",
            f"{pair['alone']['passes']:,} → {pair['told']['passes']:,}",
            f"{pair['told']['passes'] / max(1, pair['alone']['passes']):.0%}",
            f"{pair['alone']['seconds']:.0f} → {pair['told']['seconds']:.0f} s",
        ]
        for name, pair in found.items()
    ]
    columns = ["cell", "alone", "told of two jobs", "search, rows passed", "share", "job"]
    results.show("Carry-over: the search with the outcomes of two earlier jobs", columns, table)
    results.save(_RESULT, {"cells": found})
