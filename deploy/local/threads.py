"""Compute threads of each process, set on purpose: OpenMP's default is every core for every process."""

from __future__ import annotations

import os

_COMPUTE = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def cores() -> int:
    """Count the cores that this process may use: affinity and cgroups can allow fewer than the machine has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _cgroup_quota() or count))


def share(role: str, *, workers: int, threads: int) -> int:
    """Return the threads for one process of `role` ("api" or "worker"); `threads` > 0 is the operator's choice.

    Predictions come in short bursts: half of the cores. Training takes what the operating system gives it: all of
    them, shared by the workers. With passive waiting (below) the two cost each other only their share of the time.
    """
    if threads:
        return threads
    return max(1, cores() // 2 if role == "api" else cores() // max(1, workers))


def environment(count: int) -> dict[str, str]:
    """Return the variables that make a child and everything below it use `count` threads."""
    return {
        **{name: str(count) for name in _COMPUTE},
        "GRAFT_THREADS": str(count),
        # A waiting thread sleeps and leaves its core to the others. Measured on 2 cores beside one busy process: a
        # two-thread matrix product takes three times as long when its threads spin at the barrier.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "true" if count > 1 else "false",
    }


def _cgroup_quota() -> int | None:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # noqa: PTH123 - a kernel file, read whole
            quota, period = file.read().split()
        return None if quota == "max" else max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return None
