"""Every task over HTTP against a real `graft up`, one row of the table per test, each beside its peers.

`GRAFT_BENCH_ROWS=trec,sms_spam` (or `-k trec`) runs some rows; each saves its figures when it ends, and the table is
made of what is saved: `python -m tests.benchmarks.table`. `GRAFT_BENCH_BUDGET_S` is what refinement may spend on a row,
`GRAFT_BENCH_STRATEGY=head` tries a row quickly, without peers and beside the saved figures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from models.learning.evaluation.scores import Score
from tests.benchmarks import over_http, peers, results, rows, scoring, table, task_sets
from tests.benchmarks.embedded import Embedded, running
from tests.benchmarks.rows import BenchRow

pytestmark = [pytest.mark.bench, pytest.mark.timeout(7200)]
_STRATEGY = os.environ.get("GRAFT_BENCH_STRATEGY", "auto")
_BUDGET_S = float(os.environ.get("GRAFT_BENCH_BUDGET_S", "150"))
_ASKED = [name for name in os.environ.get("GRAFT_BENCH_ROWS", "").split(",") if name]
_CHOSEN = [row for row in rows.all_rows() if (row.name in _ASKED if _ASKED else not row.asked_only)]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """One deployment for all rows, warmed up: the first job would pay for whatever the processes load late."""
    folder = tmp_path_factory.mktemp("graft")
    settings = {
        "GRAFT_BASE_MODELS_FILE": str(rows.write_base_models(folder / "bases.json")),
        "GRAFT_REFINE_BUDGET_S": str(_BUDGET_S),
    }
    with running(folder, **settings) as deployment:
        warm_up = task_sets.few(task_sets.trec(), 10)
        over_http.train_and_score(deployment, "warm-up", warm_up, folder, base="minilm", strategy="head", seed=0)
        yield deployment


def test_the_rows_that_were_asked_for_exist() -> None:
    unknown = set(_ASKED) - {row.name for row in rows.all_rows()}
    assert not unknown, f"GRAFT_BENCH_ROWS knows {', '.join(row.name for row in rows.all_rows())}"


@pytest.mark.parametrize("row", _CHOSEN, ids=lambda row: row.name)
def test_row(row: BenchRow, embedded: Embedded, tmp_path: Path) -> None:
    data = row.data()
    ours = over_http.train_and_score(
        embedded, row.name, data, tmp_path, base=row.base, strategy=_STRATEGY, seed=task_sets.SEED
    )
    print(
        f"\n  {row.name}: first version {ours.first_s:.1f} s, end {ours.final_s:.1f} s, {scoring.metric(data.task)} "
        f"{_say(ours.first)} then {_say(ours.final)} by {ours.candidate}; {ours.situation}; tried {ours.tried}",
        flush=True,
    )
    beside = []
    for peer in row.peers if _STRATEGY == "auto" else ():
        seconds, answers = peers.measure(peer, data, tmp_path)
        score = scoring.score(data.task, data.test, answers)
        print(f"  {row.name}: {peer.title}: {seconds:.1f} s, {_say(score)}", flush=True)
        beside.append({"title": peer.title, "seconds": seconds, "score": asdict(score)})
    results.save(
        f"{table.FOLDER}/{row.name}" + ("" if _STRATEGY == "auto" else f"-{_STRATEGY}"),
        {
            "row": row.name,
            "title": row.title,
            "metric": scoring.metric(data.task),
            "seed": task_sets.SEED,
            "strategy": _STRATEGY,
            "budget_s": _BUDGET_S,
            "graft": ours.as_dict(),
            "peers": beside,
        },
    )
    if row.floor is not None and _STRATEGY == "auto":
        assert ours.final.value >= row.floor


def test_the_table() -> None:
    """The last: everything that is saved, earlier runs' rows included."""
    table.show()


def _say(score: Score) -> str:
    return f"{score.value:.4f} ({score.low:.3f}–{score.high:.3f})"
