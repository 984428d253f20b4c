"""What remembering saves: jobs alone, and the same jobs told of two others on other rows of the same kind of data.

Three draws of a cell's rows are three jobs. Each runs alone, then again with the outcomes that the other two left: what
the records keep, numbers. `make bench-carry-over` prints the table: mean test scores, rows passed through the base by
search and refinement, and seconds of the whole jobs. Cells are run one by one and saved; `-k trec_100` runs one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from models.backbones.loading import Backbone
from models.learning.contract.outcomes import Outcome
from tests.benchmarks import regret, regret_cells, results, task_sets
from tests.benchmarks.regret_cells import Cell

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]
_NAMES = ("banking77_5", "trec_100", "xquad_de_3")
_CELLS = [cell for cell in regret_cells.cells() if cell.name in _NAMES]
_DRAWS = range(3)
_BUDGET_S = 3_600.0  # so that what is chosen depends on rows alone
_RESULT = "carry_over"


@pytest.mark.parametrize("cell", _CELLS, ids=lambda cell: cell.name)
def test_cell(cell: Cell, base: Callable[[str], Backbone]) -> None:
    def search(draw: int, priors: tuple[Outcome, ...] = ()) -> dict[str, Any]:
        seed = task_sets.SEED + draw
        return regret.run(cell.data(draw), "auto", base(cell.base), budget_s=_BUDGET_S, seed=seed, priors=priors)

    alone = [search(draw) for draw in _DRAWS]
    left = [tuple(Outcome.from_dict(outcome) for outcome in run["outcomes"]) for run in alone]
    told = [search(draw, tuple(each for other in _DRAWS if other != draw for each in left[other])) for draw in _DRAWS]
    results.save(_RESULT, {"cells": {**_saved(), cell.name: {"alone": alone, "told": told}}})


def test_the_table() -> None:
    """The last: what it cost, and what it reached, over all cells that were run."""
    found = _saved()
    if not found:
        pytest.skip("no cell was run")
    table = []
    for name, arms in found.items():
        alone, told = ({key: _mean(arms[arm], key) for key in ("score", "passes", "seconds")} for arm in arms)
        table.append(
            [
                name,
                f"{alone['score']:.4f} ({', '.join(run['made'] for run in arms['alone'])})",
                f"{told['score']:.4f} ({', '.join(run['made'] for run in arms['told'])})",
                f"{alone['passes']:,.0f} → {told['passes']:,.0f}",
                f"{told['passes'] / alone['passes']:.0%}",
                f"{alone['seconds']:.0f} → {told['seconds']:.0f} s",
            ]
        )
    columns = ["cell", "alone", "told of two jobs", "rows passed", "share", "whole job"]
    results.show("Carry-over: means of three jobs, alone and with the outcomes of the two others", columns, table)


def _saved() -> dict[str, dict[str, list[dict[str, Any]]]]:
    path = results.path_of(_RESULT)
    found: dict[str, dict[str, list[dict[str, Any]]]] = json.loads(path.read_text())["cells"] if path.is_file() else {}
    return found


def _mean(runs: list[dict[str, Any]], key: str) -> float:
    return sum(float(run[key]) for run in runs) / len(runs)
