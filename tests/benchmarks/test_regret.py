"""What choosing costs: `auto` beside every single strategy, in cells of all situations, on test rows.

Each run is saved when it ends, and a later session goes on from there. `GRAFT_BENCH_AGAIN=auto` runs `auto` again and
keeps the single strategies; `GRAFT_BENCH_CELLS=trec_10,trec_100` (or `-k`) runs some cells;
`GRAFT_BENCH_WITHOUT=scratch,auto` leaves strategies out, of the table too. The table and the plot have whatever is
complete. To begin anew, remove `results/regret`.

Costs are given three times. `s` and `tokens`: of all single strategies, each run to its end. `of all`: the refinement's
rows passed through the base, of those that lora, partial, full and scratch would pass with every trial.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.backbones.loading import Backbone
from models.learning.contract.request import Strategy
from tests.benchmarks import regret, regret_cells, results, task_sets
from tests.benchmarks.regret_cells import Cell

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]
_AGAIN = {name for name in os.environ.get("GRAFT_BENCH_AGAIN", "").split(",") if name}
_ASKED = [name for name in os.environ.get("GRAFT_BENCH_CELLS", "").split(",") if name]
_WITHOUT = {name for name in os.environ.get("GRAFT_BENCH_WITHOUT", "").split(",") if name}
_CELLS = [
    replace(cell, singles=tuple(name for name in cell.singles if name not in _WITHOUT)) for cell in regret_cells.cells()
]
_CHOSEN = [cell for cell in _CELLS if cell.name in _ASKED or not _ASKED]
# As an operator sets it who wants answers soon; the single strategies have no budget.
_BUDGET_S = float(os.environ.get("GRAFT_BENCH_BUDGET_S", "150"))


@pytest.mark.parametrize("cell", _CHOSEN, ids=lambda cell: cell.name)
def test_cell(cell: Cell, base: Callable[[str], Backbone]) -> None:
    runs = regret.saved(cell)
    wanted: tuple[Strategy, ...] = (*cell.singles, "auto")
    for strategy in wanted:
        if strategy in _WITHOUT or (strategy in runs and strategy not in _AGAIN):
            continue
        found = regret.run_draws(cell, strategy, base(cell.base), budget_s=_BUDGET_S, seed=task_sets.SEED)
        runs[strategy] = found
        regret.save(cell, runs)
        made = found["made"]
        print(f"\n  {cell.name}: {strategy} made {made}: {found['score']:.4f}, {found['seconds']:.1f} s", flush=True)


def test_the_mean_regret_of_auto() -> None:
    """The last: the table of all complete cells, and what is promised of their means."""
    verdicts = regret.judged(_CELLS)
    if not verdicts:
        pytest.skip("no cell is complete")
    columns = ["cell", "situation", "best single", "score", "auto made", "score", "points", "s", "tokens", "of all"]
    table = [
        [
            verdict.cell,
            verdict.situation,
            verdict.best,
            f"{verdict.best_score:.4f}",
            verdict.chosen,
            f"{verdict.score:.4f}",
            f"{verdict.gain:+.2f}",
            f"{verdict.seconds_share:.0%}",
            f"{verdict.tokens_share:.0%}",
            f"{verdict.passes_share:.0%}",
        ]
        for verdict in verdicts
    ]
    mean = float(np.mean([verdict.gain for verdict in verdicts]))
    seconds_share, tokens_share = regret.total_shares(_CELLS)
    passes_share = float(np.mean([verdict.passes_share for verdict in verdicts]))
    whole = f"{len(verdicts)} of {len(_CELLS)} cells"
    costs = [f"{share:.0%}" for share in (seconds_share, tokens_share, passes_share)]
    table.append([f"mean, all cost: {whole}", "", "", "", "", "", f"{mean:+.2f}", *costs])
    results.show("Regret of auto: its score − that of the best single strategy; its cost of theirs", columns, table)
    path: Path = results.FOLDER / "regret.png"
    regret.plot(verdicts, path)
    print(f"  {path}")
    if len(verdicts) == len(_CELLS):
        assert mean >= -0.5
        assert passes_share <= 0.3
