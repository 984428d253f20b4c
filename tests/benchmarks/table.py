"""The table of all tasks from what single runs have saved: `python -m tests.benchmarks.table` prints it as Markdown."""

from __future__ import annotations

import json
from typing import Any

from tests.benchmarks import results
from tests.benchmarks.rows import all_rows

FOLDER = "tasks"
_COLUMNS = (
    "data set",
    "rows",
    "first version (s)",
    "end (s)",
    "metric",
    "first",
    "final",
    "95 % interval",
)


def saved() -> list[dict[str, Any]]:
    """What was saved of each row with `auto`, in the order of the table."""
    found = []
    for row in all_rows():
        path = results.path_of(f"{FOLDER}/{row.name}")
        if path.is_file():
            found.append(json.loads(path.read_text("utf-8")))
    return found


def lines(found: dict[str, Any]) -> list[list[str]]:
    """The cells of one row, and of each peer below it."""
    ours = found["graft"]
    own = [
        f"{found['title']}: {ours['candidate']}",
        f"{ours['rows']:,}",
        _seconds(ours["first_s"]),
        _seconds(ours["final_s"]),
        found["metric"],
        f"{ours['first']['value']:.4f}",
        *_scored(ours["final"]),
    ]
    return [
        own,
        *(
            [f"– {peer['title']}", "", "", _seconds(peer["seconds"]), "", "", *_scored(peer["score"])]
            for peer in found["peers"]
        ),
    ]


def markdown() -> str:
    """The whole table and what it was taken on."""
    everything = saved()
    if not everything:
        return "Nothing is saved yet: run `make bench`."
    cells = [list(_COLUMNS), ["---", *["---:"] * (len(_COLUMNS) - 1)]]
    cells += [line for found in everything for line in lines(found)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in cells)
    return f"{table}\n\n{_caption(everything)}\n"


def show() -> None:
    """The same for a terminal."""
    results.show("Every task over HTTP", list(_COLUMNS), [line for found in saved() for line in lines(found)])


def _caption(everything: list[dict[str, Any]]) -> str:
    machines = {
        f"{found['machine']['cores']} cores ({found['machine']['processor']}), torch {found['machine']['torch']}"
        for found in everything
    }
    budgets = " or ".join(sorted({f"{found['budget_s']:g}" for found in everything}))
    seeds = " or ".join(sorted({str(found["seed"]) for found in everything}))
    return f"Seed {seeds}, `GRAFT_REFINE_BUDGET_S={budgets}`, {'; '.join(sorted(machines))}."


def _scored(score: dict[str, float]) -> list[str]:
    return [f"{score['value']:.4f}", f"{score['low']:.3f} to {score['high']:.3f}"]


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    print(markdown())
