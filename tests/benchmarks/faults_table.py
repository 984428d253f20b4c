"""The table of the fault benchmark, as Markdown and into the README."""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

_PLACE = re.compile(r"(<!-- faults:[^>]*-->\n).*?(<!-- /faults -->)", re.DOTALL)
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
RECOVERY_GOAL_S = 15.0
READY_GOAL_S = 10.0
_KINDS = {
    "kill worker": "kill -9 of a worker",
    "kill trainer": "of a trainer",
    "kill api": "of the API",
    "kill valkey": "of Valkey",
    "freeze worker": "a worker frozen for 45 s",
    "freeze trainer": "a trainer frozen for 45 s",
    "restart postgresql": "PostgreSQL restarted",
    "fill disk": "the disk full for 15 s",
}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def recoveries(arm: Mapping[str, Any]) -> list[float]:
    return [fault["recovered_s"] for fault in arm["faults"] if fault["recovered_s"] is not None]


def undisturbed(arm: Mapping[str, Any]) -> list[float]:
    """Recoveries during which no further fault hit the same job."""
    hits = _hits(arm)
    return [
        fault["recovered_s"]
        for fault in hits
        if not any(
            other["job"] == fault["job"] and fault["at"] < other["at"] < fault["at"] + fault["recovered_s"]
            for other in arm["faults"]
        )
    ]


def readiness(arm: Mapping[str, Any]) -> list[float]:
    return [fault["ready_s"] for fault in arm["faults"] if fault["ready_s"] is not None]


def as_markdown(saved: Mapping[str, Any]) -> str:
    """The saved results as a table with the machine below it."""
    arms = saved["arms"]
    columns = [_NAMES[name] for name in arms]
    text = ["| measure | goal | " + " | ".join(columns) + " |", "| --- | ---: |" + " ---: |" * len(columns)]
    for what, goal, cells in _lines(list(arms.values())):
        text.append(f"| {what} | {goal} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n\n" + _caption(saved) + "\n"


def insert_into(document: str, saved: Mapping[str, Any]) -> str:
    """The document with the table between its two markers."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{as_markdown(saved)}{found[2]}", document)


def _lines(arms: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[str]]]:
    audits = [arm["audit"] for arm in arms]
    lines = [("jobs of two customers, accepted", "", [f"{audit['accepted']}" for audit in audits])]
    lines.append(("faults", "", [", ".join(_counted(arm)) for arm in arms]))
    lines.append(("jobs that a fault interrupted", "", [str(len({f["job"] for f in _hits(arm)})) for arm in arms]))
    lines.append(("ended well", "", [str(audit["succeeded"]) for audit in audits]))
    lines.append(("failed, as a fault explains", "", [_failures(audit) for audit in audits]))
    for what, names in (
        ("lost, or failed for no reason", ("lost", "unexplained")),
        ("made or published twice", ("made_twice", "published_twice")),
        ("numbers of versions with gaps, versions without an answer", ("gaps", "unanswered", "unpublished")),
        ("billed twice, in vain or not at all", ("billed_twice", "billed_in_vain", "unbilled")),
    ):
        lines.append((what, "0", [_judged(sum(len(audit[name]) for name in names), 0, "") for audit in audits]))
    recovery, ready = [recoveries(arm) for arm in arms], [readiness(arm) for arm in arms]
    lines.append(("recovery, p50: from the fault to progress of another attempt", "", _each(recovery, 0.5)))
    lines.append(("recovery, p99", f"≤ {RECOVERY_GOAL_S:g} s", _each(recovery, 0.99, RECOVERY_GOAL_S)))
    alone = [undisturbed(arm) for arm in arms]
    lines.append(("the same of those that no further fault hit meanwhile, p50", "", _each(alone, 0.5)))
    lines.append(("… and p99", f"≤ {RECOVERY_GOAL_S:g} s", _each(alone, 0.99, RECOVERY_GOAL_S)))
    lines.append(("`/readyz` answers 200 after a kill of the API, median", "", _each(ready, 0.5)))
    lines.append(("the same, p99", f"≤ {READY_GOAL_S:g} s", _each(ready, 0.99, READY_GOAL_S)))
    shares = [arm["answered_while_full"] for arm in arms]
    lines.append(("predictions answered while the disk was full", "", [f"{a} of {b}" for a, b in shares]))
    loads = [f"{arm['load']['mean']:.1f} ({arm['load']['most']:.1f})" for arm in arms]
    lines.append(("load average of the machine, mean (most)", "", loads))
    lines.append(("seconds", "", [f"{arm['seconds']:.0f}" for arm in arms]))
    return lines


def _hits(arm: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [fault for fault in arm["faults"] if fault["recovered_s"] is not None]


def _counted(arm: Mapping[str, Any]) -> list[str]:
    kinds = [fault["kind"] for fault in arm["faults"]]
    return [f"{kinds.count(kind)} × {name}" for kind, name in _KINDS.items() if kind in kinds]


def _failures(audit: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} × `{code}`" for code, count in audit["failed"].items()) or "0"


def _each(samples: Sequence[Sequence[float]], share: float, goal: float | None = None) -> list[str]:
    cells = []
    for values in samples:
        if not values:
            cells.append("–")
            continue
        value = statistics.median(values) if share == 0.5 else percentile(values, share)
        cell = f"{value:.1f} s" if goal is None else _judged(round(value, 1), goal, " s")
        cells.append(f"{cell} of {len(values)}" if share != 0.5 else cell)
    return cells


def _judged(value: float, goal: float, unit: str) -> str:
    return f"{value:g}{unit}" if value <= goal else f"{value:g}{unit} **missed**"


def _caption(saved: Mapping[str, Any]) -> str:
    machine = saved["machine"]
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("python", "torch", *saved["versions"]) if machine.get(name)
    )
    more = ", ".join(f"{name} {value}" for name, value in saved["versions"].items())
    day = time.strftime("%Y-%m-%d", time.gmtime(saved["at"]))
    return (
        f"Seed {saved['seed']}, two workers, {machine['processor']}, {machine['cores']} cores; {versions}, {more}; "
        f"commit {saved['commit']}, {day}. {saved['disk']}"
    )
