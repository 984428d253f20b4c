"""The table of the serving benchmark: what is claimed, what was measured; as Markdown, and into the README."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.benchmarks.serving_plan import Found

_PLACE = re.compile(r"(<!-- serving:[^>]*-->\n).*?(<!-- /serving -->)", re.DOTALL)


@dataclass(frozen=True)
class Claim:
    """One line. Without a goal the figure is stated, not judged."""

    row: str
    what: str
    read: Callable[[Found], float]
    sign: Literal["≥", "≤", ""] = ""
    goal: float = 0.0
    unit: str = ""  # of goal and figure: "" for ratios
    digits: int = 2
    also: Callable[[Found], str] = lambda row: ""

    def met(self, row: Found) -> bool | None:
        """Whether the goal was reached; None: there is none."""
        if not self.sign:
            return None
        figure = self.read(row)
        return figure >= self.goal if self.sign == "≥" else figure <= self.goal


def _rate(row: Found, *names: str, key: str = "requests_per_s", unit: str = "/s") -> str:
    return " : ".join(f"{row[key][name]:,.0f}" for name in names) + unit


def _p99(row: Found, *names: str) -> str:
    return "p99 " + " : ".join(f"{row['p99_ms'][name]:.1f}" for name in names) + " ms"


CLAIMS = (
    Claim(
        "1", "heads: every text another customer's over all texts one customer's", lambda row: row["value"], "≥", 0.97,
        also=lambda row: _rate(
            row, "all different, 77 classes", "all one, 77 classes", key="texts_per_s", unit=" texts/s (77 classes)"
        ),
    ),
    Claim(
        "2", "all customers (10,000) over 10, uniform traffic", lambda row: row["value"], "≥", 0.95,
        also=lambda row: _rate(row, f"{row['customers']} customers", f"{row['sizes'][0]} customers")
        + f"; {row['bytes_per_customer'] / 1e3:.0f} kB each (5 to 77 classes)",
    ),
    Claim(
        "2", "uniform over Zipf's traffic", lambda row: row["uniform_over_zipf"], "≥", 0.9,
        also=lambda row: _rate(row, f"{row['customers']} customers", "zipf"),
    ),
    *(
        claim
        for precision in ("fp32", "bf16")
        for claim in (
            Claim(
                "3", f"64 LoRA customers (r = 8, all linear layers) in a batch of 64 over the bare base, {precision}",
                lambda row, at=precision: row[at]["over_base"], "≥", 0.92,
                also=lambda row, at=precision: _rate(
                    row[at], "64 adapters", "bare base", key="rows_per_s", unit=" texts/s, one thread"
                ),
            ),
            Claim(
                "3", f"the same over PEFT's `adapter_names`, {precision}",
                lambda row, at=precision: row[at]["over_peft"], "≥", 3, digits=1,
                also=lambda row, at=precision: _rate(
                    row[at], "64 adapters", "peft adapter_names", key="rows_per_s", unit=" texts/s"
                ),
            ),
            Claim(
                "3", f"the hot adapter, merged, over the bare base, {precision}",
                lambda row, at=precision: row[at]["merged_over_base"], "≥", 0.97,
                also=lambda row, at=precision: _rate(
                    row[at], "one adapter, merged", "bare base", key="rows_per_s", unit=" texts/s"
                ) + f"; 60 of 64 rows {row[at]['mostly_merged_over_base']:.2f}",
            ),
        )
    ),
    Claim(
        "4", "memory of a further customer (10 classes) over a copy of the base", lambda row: 100 * row["value"],
        "≤", 0.03, " %", 3, also=lambda row: f"{row['bytes_per_customer'] / 1e3:.1f} kB : "
        f"{row['bytes_of_a_copy'] / 1e6:.0f} MB",
    ),
    Claim(
        "5", "an evicted customer's request (from a local S3) over a warm one, p99", lambda row: row["value"], "≤", 3,
        also=lambda row: _p99(row, "store", "memory"),
    ),
    Claim(
        "5", "throughput with memory for a tenth of the adapters, the rest on disk, over all in memory",
        lambda row: row["tenth_over_all"],
        also=lambda row: "all, half, a quarter, a tenth: " + _rate(row, *row["requests_per_s"]),
    ),
    Claim(
        "6", "encoder, bf16, over sentence-transformers' `encode`", lambda row: row["bf16_over_peer"], "≥", 5, digits=1,
        also=lambda row: _rate(row, "bf16", "sentence-transformers", key="texts_per_s", unit=" texts/s"),
    ),
    Claim(
        "6", "accuracy that bf16 costs", lambda row: row["points_lost_in_bf16"], "≤", 0.3, " points",
        also=lambda row: f"{row['accuracy']['fp32']:.4f} → {row['accuracy']['bf16']:.4f}",
    ),
    Claim(
        "6", "encoder, fp32, over sentence-transformers' `encode`", lambda row: row["fp32_over_peer"], "≥", 1.3,
        also=lambda row: _rate(row, "fp32", "sentence-transformers", key="texts_per_s", unit=" texts/s"),
    ),
    Claim(
        "6", "largest difference of a unit vector's element, fp32", lambda row: row["fp32_largest_difference"],
        "≤", 1e-4, digits=7,
    ),
    Claim(
        "7", "over HTTP (wrk, 64 connections, one text a request) over in process", lambda row: row["value"], "≥", 0.8,
        also=lambda row: f"{_rate(row, 'http', 'in process')}; {_p99(row, 'http', 'in process')}",
    ),
    Claim(
        "8", "p99 at half of the saturation rate over a bare forward pass", lambda row: row["value"], "≤", 3,
        also=lambda row: f"{row['p99_ms']:.1f} : {row['bare_forward_ms']['packed']:.1f} ms, "
        f"saturated at {row['saturation_per_s']:,.0f}/s",
    ),
    Claim(
        "9", "one process for 200 customers over a `pipeline` each: throughput", lambda row: row["value"], digits=1,
        also=lambda row: _rate(row, "graft", "pipelines"),
    ),
    Claim(
        "9", "… and how many times its memory the pipelines need", lambda row: row["memory"], digits=1,
        also=lambda row: f"{row['resident_bytes']['pipelines'] / 1e9:.2f} : "
        f"{row['resident_bytes']['graft'] / 1e9:.2f} GB",
    ),
    Claim(
        "10", "throughput while a job trains on the same machine over idle", lambda row: row["value"], "≥", 0.45,
        also=lambda row: _rate(row, "training", "idle"),
    ),
    Claim(
        "F", "one customer at 50 times its share: the others' p99 over quiet", lambda row: row["value"], "≤", 2,
        also=lambda row: _p99(row, "flooded", "quiet"),
    ),
)  # fmt: skip


def lines(rows: Mapping[str, Found]) -> list[dict[str, Any]]:
    """The table as data; a row that was not measured says why."""
    made = []
    for claim in CLAIMS:
        row = rows.get(claim.row)
        if row is None:
            continue
        line: dict[str, Any] = {
            "row": claim.row,
            "what": claim.what,
            "goal": "",
            "measured": "",
            "met": None,
            "also": "",
        }
        if claim.sign:
            line["goal"] = f"{claim.sign} {claim.goal:g}{claim.unit}"
        if "missing" in row:
            line["figures"] = f"not measured: {row['missing']}"
        else:
            try:
                line["figures"] = claim.also(row)
                line["measured"] = f"{claim.read(row):.{claim.digits}f}{claim.unit}"
                line["met"] = claim.met(row)
            except KeyError as absent:  # a row that is kept from a run of an earlier version
                no_bf16 = "bf16" in str(absent) or "bf16" in claim.what
                line["figures"] = (
                    "not measured: no bf16 in hardware" if no_bf16 else f"not measured: the saved row has no {absent}"
                )
        made.append(line)
    return made


def judged(met: bool | None) -> str:
    """A cell."""
    return "" if met is None else ("met" if met else "**missed**")


def as_markdown(saved: Mapping[str, Any]) -> str:
    """The saved results as a table with the machine below it."""
    text = ["| | measure | goal | measured | | figures |", "| --- | --- | ---: | ---: | --- | --- |"]
    text += [
        f"| {line['row']} | {line['what']} | {line['goal']} | {line['measured']} | {judged(line['met'])} "
        f"| {line['figures']} |"
        for line in lines(saved["rows"])
    ]
    return "\n".join(text) + "\n\n" + _caption(saved) + "\n"


def insert_into(document: str, saved: Mapping[str, Any], figures: Mapping[str, str]) -> str:
    """The document with the table, and the figures (file → what it shows), between its two markers."""
    images = "".join(f"![{shows}]({file})\n" for file, shows in figures.items())
    return _PLACE.sub(lambda found: f"{found[1]}\n{as_markdown(saved)}\n{images}{found[2]}", document)


def _caption(saved: Mapping[str, Any]) -> str:
    machine = saved["machine"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in machine if name not in ("processor", "cores", "gpu") and machine[name]
    )
    days = sorted({time.strftime("%Y-%m-%d", time.gmtime(row["at"])) for row in saved["rows"].values()})
    rounds = sorted({row["rounds_asked"] for row in saved["rows"].values()})
    return (
        f"{machine.get('gpu', machine['processor'])}, {machine['cores']} cores; {versions}. Texts: {saved['data']}. "
        f"Medians of {' or '.join(map(str, rounds))} rounds, the arms in turn; {' to '.join(days)}."
    )
