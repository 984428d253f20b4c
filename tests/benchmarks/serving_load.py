"""Traffic for the serving benchmark: closed and open loops, whose turn it is, what a stretch of traffic showed."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

# A request of the given number.
Ask = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True)
class Run:
    """What one stretch of traffic showed."""

    rate: float  # answers per second
    latencies_ms: NDArray[np.float64]

    def percentile(self, share: float) -> float:
        """A latency in milliseconds."""
        return float(np.percentile(self.latencies_ms, share))


def turns(arms: Iterable[str], rounds: int) -> Iterator[str]:
    """Every arm once per round, one after the other, and none of them always first."""
    names = list(arms)
    for number in range(rounds):
        first = number % len(names)
        yield from names[first:] + names[:first]


def medians(found: dict[str, list[float]]) -> dict[str, float]:
    """The median of each arm."""
    return {name: statistics.median(values) for name, values in found.items()}


def median_p99(runs: Sequence[Run]) -> float:
    """The median of the runs' 99th percentiles, in milliseconds."""
    return statistics.median(run.percentile(99) for run in runs)


async def closed_loop(ask: Ask, *, seconds: float, connections: int = 64, first: int = 0) -> Run:
    """`connections` callers, each with one request at a time, for some seconds; numbered from `first` on."""
    latencies: list[float] = []
    began = time.perf_counter()
    number = first

    async def caller() -> None:
        nonlocal number
        while (asked_at := time.perf_counter()) < began + seconds:
            number += 1
            await ask(number - 1)
            latencies.append(time.perf_counter() - asked_at)

    await asyncio.gather(*(caller() for _ in range(connections)))
    return Run(len(latencies) / (time.perf_counter() - began), np.array(latencies) * 1e3)


def resident_bytes() -> int:
    """Of this process: in its GPU's memory if it has one, which is what runs out there, else in the machine's."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss


async def each(ask: Ask, numbers: Iterable[int], *, connections: int = 64) -> None:
    """Ask once for every number."""
    waiting = iter(numbers)

    async def caller() -> None:
        for number in waiting:
            await ask(number)

    await asyncio.gather(*(caller() for _ in range(connections)))


async def open_loop(ask: Ask, *, rate: float, seconds: float, seed: int = 0) -> Run:
    """Requests at random times (Poisson), whether or not the earlier ones were answered.

    A latency counts from when its request was due, so that one that the generator sends late, because the process is
    busy, is not counted as quick.
    """
    draw = random.Random(seed)
    latencies: list[float] = []
    pending: list[asyncio.Task[None]] = []

    async def one(number: int, due: float) -> None:
        due = min(due, time.perf_counter())  # the event loop's clock may let it go a little early
        await ask(number)
        latencies.append(time.perf_counter() - due)

    began = due = time.perf_counter()
    while (due := due + draw.expovariate(rate)) < began + seconds:
        delay = due - time.perf_counter()
        # Below a millisecond the event loop's own clock is the limit: let others run and go on.
        await asyncio.sleep(delay if delay > 0.001 else 0)
        pending.append(asyncio.create_task(one(len(pending), due)))
    await asyncio.gather(*pending)
    return Run(len(pending) / (time.perf_counter() - began), np.array(latencies) * 1e3)


def uniform(count: int, size: int, *, seed: int = 0) -> list[int]:
    """`size` customers, all equally popular."""
    drawn: list[int] = np.random.default_rng(seed).integers(count, size=size).tolist()
    return drawn


def zipf(count: int, size: int, *, exponent: float = 1.1, seed: int = 0) -> list[int]:
    """`size` customers, the k-th most popular with weight k^-exponent."""
    weights = np.arange(1, count + 1) ** -exponent
    drawn: list[int] = np.random.default_rng(seed).choice(count, size=size, p=weights / weights.sum()).tolist()
    return drawn
