"""Waiting without a clock: the real queue and the real choice of passes on a processor that is two numbers.

A pass of n tokens takes `start_s + n * token_s`; threads do not disturb each other; nothing else takes time. What comes
out is the best that these rules can do on such a processor, and the same on every machine that runs it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.serving.encoders.engine import CPU_PASS_TOKENS, FIRST_TURN, QUANTUM
from models.serving.encoders.pass_cost import PassCost, next_pass
from models.serving.fair_queue import FairQueue


@dataclass(frozen=True)
class Processor:
    """What a pass takes on one core."""

    start_s: float
    token_s: float
    threads: int = 2

    def pass_s(self, tokens: int) -> float:
        """Seconds."""
        return self.start_s + self.token_s * tokens


# Measured with short texts on all-MiniLM-L6-v2.
AVX2 = Processor(8.5e-3, 0.68e-3)
AMX = Processor(2.6e-3, 0.05e-3)


@dataclass(eq=False)
class Arrival:
    """A request of one row."""

    at_s: float
    owner: str
    cost: int


def arrivals(owners: Sequence[str], rate: float, lengths: Sequence[int], *, count: int, seed: int = 0) -> list[Arrival]:
    """`count` requests at random times (Poisson), `rate` a second of all owners together."""
    draw = random.Random(seed)
    at_s, found = 0.0, []
    for _ in range(count):
        at_s += draw.expovariate(rate)
        found.append(Arrival(at_s, draw.choice(owners), draw.choice(lengths)))
    return found


def latencies(processor: Processor, requests: Sequence[Arrival]) -> dict[str, NDArray[np.float64]]:
    """Seconds that each owner's requests took, the first twentieth left out."""
    requests = sorted(requests, key=lambda request: request.at_s)
    queue: FairQueue[Arrival] = FairQueue(quantum=QUANTUM, first=FIRST_TURN)
    cost, free, now, arrived = PassCost(), [0.0] * processor.threads, 0.0, 0
    found: dict[str, list[float]] = {}
    while arrived < len(requests) or len(queue):
        thread = min(range(processor.threads), key=free.__getitem__)
        now = max(now, free[thread])
        if not len(queue) and arrived < len(requests):
            now = max(now, requests[arrived].at_s)
        while arrived < len(requests) and requests[arrived].at_s <= now:
            queue.put(requests[arrived].owner, [requests[arrived]])
            arrived += 1
        rows = next_pass(queue, cost, most=CPU_PASS_TOKENS, takers=processor.threads)
        tokens = sum(row.cost for row in rows)
        spent_s = processor.pass_s(tokens)
        cost.observe(tokens, len(rows), spent_s)
        free[thread] = now + spent_s
        for row in rows:
            found.setdefault(row.owner, []).append(free[thread] - row.at_s)
    return {owner: np.array(times[len(times) // 20 :]) for owner, times in found.items()}


def saturation(processor: Processor, lengths: Sequence[int], *, tokens: int) -> float:
    """Requests a second in passes of so many tokens on all threads."""
    return float(processor.threads * tokens / np.mean(lengths) / processor.pass_s(tokens))
