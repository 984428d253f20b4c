"""`python -m tests.benchmarks.serving`: what serving claims, measured; a table, a JSON file and two plots.

All ratios come from one run, their arms interleaved, each the median of at least five. `--rows 1,3,6` runs some of
them, `--customers` makes the world smaller.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tests.benchmarks import public_data, results, serving_compute, serving_traffic
from tests.benchmarks.serving_world import World, build

GOALS: dict[str, tuple[str, str, Callable[[float], bool]]] = {
    "1": ("all customers different over all the same (heads)", "≥ 0.97", lambda value: value >= 0.97),
    "2": ("many customers over 10", "≥ 0.95", lambda value: value >= 0.95),
    "3": ("64 LoRA customers in 64 rows over the bare base (fp32)", "≥ 0.92", lambda value: value >= 0.92),
    "4": ("memory per further customer over a copy of the base", "≤ 0.0003", lambda value: value <= 0.0003),
    "5": ("p99 of an evicted customer's first request over warm", "≤ 3", lambda value: value <= 3),
    "6": ("encoder over sentence-transformers (bf16)", "≥ 5", lambda value: value >= 5),
    "8": ("p99 at half load over a bare forward pass", "≤ 3", lambda value: value <= 3),
    "9": ("requests/s over one pipeline per customer", "stated", lambda value: True),
    "10": ("throughput while a job trains over idle", "≥ 0.45", lambda value: value >= 0.45),
    "F": ("others' p99 under a flood over quiet", "≤ 2", lambda value: value <= 2),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default=",".join(GOALS))
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    asked = options.rows.split(",")
    test = public_data.text_rows("banking77", "test", label="category")
    train = public_data.text_rows("banking77", "train", label="category")
    texts = [text for text, _ in test]
    rounds = options.rounds
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as scratch:
        folder = Path(scratch)
        world: list[World] = []

        def the_world() -> World:
            if not world:
                world.append(build(folder / "world", serving_compute.load("auto"), options.customers))
            return world[0]

        data = public_data.write_csv(train, folder / "train.csv")
        labelled = tuple([row[at] for row in rows] for rows in (train, test) for at in (0, 1))
        rows: dict[str, Callable[[], Any]] = {
            "4": lambda: serving_compute.memory_slope(500),  # first: nothing has grown the process yet
            "1": lambda: serving_compute.mixed_heads(texts, rounds),
            "3": lambda: serving_compute.mixed_lora(texts, rounds),
            "6": lambda: serving_compute.encoder_rate(texts[:1_024], rounds, labelled),
            "2": lambda: asyncio.run(serving_traffic.many_customers(the_world(), texts, rounds)),
            "8": lambda: asyncio.run(serving_traffic.load_curve(the_world(), texts, options.seconds)),
            "F": lambda: asyncio.run(serving_traffic.fairness(the_world(), texts, options.seconds)),
            "10": lambda: asyncio.run(serving_traffic.beside_a_job(the_world(), texts, rounds, data, folder / "jobs")),
            "5": lambda: asyncio.run(serving_traffic.evicted(folder / "s3", texts)),
            "9": lambda: _usual_way(the_world(), folder / "pipelines", texts, rounds),
        }
        for number, measure in rows.items():
            if number in asked:
                found[number] = measure()
                print(f"row {number}: {found[number]['value']:.4f}", flush=True)
        path = results.save("serving", {"rows": found, "customers": options.customers})
        _plot(found)
    columns = ["row", "what", "goal", "measured", ""]
    table = [
        [number, what, goal, f"{found[number]['value']:.4f}", "met" if met(found[number]["value"]) else "missed"]
        for number, (what, goal, met) in GOALS.items()
        if number in found
    ]
    results.show("Serving", columns, table)
    for name, value in results.machine().items():
        print(f"{name}: {value}")
    print(f"details: {path}")


def _usual_way(world: World, scratch: Path, texts: list[str], rounds: int) -> dict[str, Any]:
    theirs = serving_traffic.usual_way(scratch, texts, rounds)
    ours = asyncio.run(serving_traffic.many_customers(World(world.resources, min(200, world.count)), texts, rounds))
    rate = ours["requests_per_s"][f"{min(200, world.count)} customers"]
    return {
        "value": rate / theirs["requests_per_s"],
        "requests_per_s": {"graft": rate, "pipelines": theirs["requests_per_s"]},
        "pipeline_bytes_each": theirs["resident_bytes_each"],
        "pipeline_bytes_of_200": 200 * theirs["resident_bytes_each"],
    }


def _plot(found: dict[str, Any]) -> None:
    """Throughput and p99 over customers, and over load."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    def draw(name: str, x: list[float], label: str, rates: list[float], p99: list[float], *, log: bool) -> None:
        figure, left = pyplot.subplots(figsize=(6, 4))
        left.plot(x, rates, "o-", color="tab:blue")
        left.set(xlabel=label, ylabel="requests/s", ylim=(0, None), xscale="log" if log else "linear")
        right = left.twinx()
        right.plot(x, p99, "s--", color="tab:red")
        right.set(ylabel="p99 in ms", ylim=(0, None))
        figure.tight_layout()
        figure.savefig(results.FOLDER / name, dpi=120)
        pyplot.close(figure)

    if "2" in found:
        row, sizes = found["2"], found["2"]["sizes"]
        names = [f"{size} customers" for size in sizes]
        rates, p99 = ([row[key][name] for name in names] for key in ("requests_per_s", "p99_ms"))
        draw("serving_customers.png", sizes, "customers", rates, p99, log=True)
    if "8" in found:
        curve = found["8"]["curve"]
        shares = [float(share) for share in curve]
        rates, p99 = ([point[key] for point in curve.values()] for key in ("rate", "p99_ms"))
        draw("serving_load.png", shares, "share of the saturation rate", rates, p99, log=False)


if __name__ == "__main__":
    main()
