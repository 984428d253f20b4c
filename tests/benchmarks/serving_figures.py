"""Two plots of the serving benchmark: over how many customers there are, and over load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.serving_plan import Found

CUSTOMERS = "serving-customers.png"
LOAD = "serving-load.png"
SHOWS = {
    CUSTOMERS: "Throughput and p99 over the number of customers",
    LOAD: "Throughput and p99 over the load",
}


def draw(rows: Mapping[str, Found], folder: Path) -> list[str]:
    """Write what the measured rows allow; the names of the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    row = rows.get("2", {})
    if "sizes" in row:
        names = [f"{size} customers" for size in row["sizes"]]
        rates, p99 = ([row[key][name] for name in names] for key in ("requests_per_s", "p99_ms"))
        _plot(folder / CUSTOMERS, row["sizes"], "customers, uniform traffic, 64 callers", rates, p99, log_x=True)
        made.append(CUSTOMERS)
    row = rows.get("8", {})
    if "curve" in row:
        rates, p99 = ([point[key] for point in row["curve"].values()] for key in ("answered_per_s", "p99_ms"))
        # Beyond saturation the queue grows for as long as one measures: a logarithm keeps the rest readable.
        _plot(folder / LOAD, [float(load) for load in row["curve"]], "load / saturation rate", rates, p99, log_y=True)
        made.append(LOAD)
    return made


def _plot(
    path: Path,
    x: Sequence[float],
    label: str,
    rates: Sequence[float],
    p99: Sequence[float],
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot, ticker

    figure, left = pyplot.subplots(figsize=(5, 3))
    left.plot(x, rates, "o-", color="tab:blue")
    left.set(xlabel=label, ylim=(0, 1.1 * max(rates)), xscale="log" if log_x else "linear")
    left.set_ylabel("answers/s", color="tab:blue")
    right = left.twinx()
    right.plot(x, p99, "s--", color="tab:red")
    right.set_ylabel("p99 in ms", color="tab:red")
    if log_y:
        right.set_yscale("log")
        right.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter("{x:.0f}")
        right.yaxis.set_minor_locator(ticker.NullLocator())
    else:
        right.set_ylim(0, 1.3 * max(p99))
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
