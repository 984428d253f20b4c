"""`make bench-serving`: what serving claims, measured; a table, a JSON file and two plots.

All ratios come from one run, their arms in turn, each the median of at least five rounds. Every row runs in a process
of its own. `--rows 1,3,6` measures some of them again and keeps the others of the last run; `--quick` only tries that
everything works; `--readme README.md` measures nothing and writes the last run into the README.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import structlog

from tests.benchmarks import (
    public_data,
    results,
    serving_compute,
    serving_eviction,
    serving_figures,
    serving_memory,
    serving_processes,
    serving_table,
    serving_traffic,
    serving_world,
)
from tests.benchmarks.serving_plan import Found, Plan

ROWS: dict[str, Callable[[Plan], Found]] = {
    "1": serving_compute.mixed_heads,
    "2": serving_traffic.many_customers,
    "3": serving_compute.mixed_lora,
    "4": serving_memory.memory_slope,
    "5": serving_eviction.evicted,
    "6": serving_compute.encoder_rate,
    "7": serving_processes.over_http,
    "8": serving_traffic.load_curve,
    "9": serving_processes.usual_way,
    "10": serving_traffic.beside_a_job,
    "F": serving_traffic.fairness,
}
# Those that ask the customers of the common world.
_IN_THE_WORLD = {"2", "7", "8", "9", "10", "F"}
_NAME = "serving"
_FIGURES = Path("deploy") / "figures"


def main() -> int:
    """Measure and print; how many rows could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="some of them: 1,3,6")
    parser.add_argument("--quick", action="store_true", help="few customers, short and few rounds; saved apart")
    parser.add_argument("--readme", type=Path, help="write the last run's table and plots there and stop")
    parser.add_argument("--customers", type=int, help="of the common world: 10,000, or 500 with --quick")
    parser.add_argument("--seconds", type=float, help="of one arm in one round: 4, or 1 with --quick")
    options = parser.parse_args()
    asked = options.rows.split(",")
    if unknown := set(asked) - set(ROWS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if options.readme:
        _write_into(options.readme)
        return 0
    name = f"{_NAME}-quick" if options.quick else _NAME
    customers = options.customers or (500 if options.quick else 10_000)
    seconds = options.seconds or (1.0 if options.quick else 4.0)
    rounds = 2 if options.quick else 5
    rows = _last_rows(name) | _measure([row for row in ROWS if row in asked], customers, seconds, rounds)
    rows = {row: rows[row] for row in ROWS if row in rows}
    saved = {"data": public_data.short_texts()[0], "lines": serving_table.lines(rows), "rows": rows}
    path = results.save(name, saved)
    figures = serving_figures.draw(rows, path.with_suffix(""))
    columns = ["row", "what", "goal", "measured", "met", "figures"]
    cells = [
        [serving_table.judged(line["met"]) if name == "met" else line[name] for name in columns]
        for line in saved["lines"]
    ]
    results.show("Serving", columns, cells)
    print("\n" + serving_table.as_markdown(json.loads(path.read_text())))
    print(f"details: {path}, plots: {path.with_suffix('')} ({', '.join(figures) or 'none'})")
    return sum("missing" in rows[row] for row in asked)


def _measure(asked: list[str], customers: int, seconds: float, rounds: int) -> dict[str, Found]:
    rows: dict[str, Found] = {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as scratch:
        data, train, test = public_data.short_texts()
        plan = Plan(
            folder=Path(scratch),
            customers=customers,
            rounds=rounds,
            seconds=seconds,
            data=data,
            train=train,
            test=test,
        )
        if _IN_THE_WORLD & set(asked):
            _apart(_build_world, plan)
            print(f"{plan.customers:,} customers: {time.perf_counter() - began:.0f} s", flush=True)
        for row in asked:
            started = time.perf_counter()
            try:
                rows[row] = _apart(ROWS[row], plan)
                said = f"{rows[row]['value']:.4f}"
            except Exception as error:  # the other rows are worth having
                rows[row] = {"missing": str(error)}
                said = rows[row]["missing"]
            took = time.perf_counter() - started
            rows[row] |= {"at": time.time(), "seconds": took, "rounds_asked": plan.rounds}
            print(f"row {row}: {said} ({took:.0f} s)", flush=True)
    print(f"altogether {time.perf_counter() - began:.0f} s")
    return rows


def _apart(measure: Callable[[Plan], Any], plan: Plan) -> Any:
    """In a fresh process: its memory, its threads and its garbage collector know nothing of the other rows."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_guarded, measure, plan).result()


def _guarded(measure: Callable[[Plan], Any], plan: Plan) -> Any:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        return measure(plan)
    except Exception as error:
        traceback.print_exc()
        # Not the error itself: not every class can cross the process boundary.
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


def _build_world(plan: Plan) -> None:
    serving_world.build(plan.home, serving_compute.load("auto"), plan.customers).resources.close()


def _last_rows(name: str) -> dict[str, Found]:
    path = results.path_of(name)
    if not path.is_file():
        return {}
    saved = json.loads(path.read_text())
    rows: dict[str, Found] = saved["rows"]
    # Figures of another machine do not belong into one table.
    return rows if saved["machine"] == results.machine() else {}


def _write_into(readme: Path) -> None:
    saved = json.loads(results.path_of(_NAME).read_text())
    made = serving_figures.draw(saved["rows"], readme.parent / _FIGURES)
    figures = {(_FIGURES / file).as_posix(): serving_figures.SHOWS[file] for file in made}
    readme.write_text(serving_table.insert_into(readme.read_text(encoding="utf-8"), saved, figures), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
