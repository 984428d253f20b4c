"""Counts of what was answered for each customer: in memory, written in aggregates, nothing lost at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import structlog

from models.services import usage
from models.services.resources import Resources
from models.services.usage import HOUR_S, UsageDelta

log = structlog.get_logger(__name__)

FLUSH_S = 10.0


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one answered request; `seconds` are its share of the engine's time."""

    rows: int
    tokens: int
    seconds: float


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0


class UsageMeter:
    """Sums by customer, model, kind and hour. `count` belongs to one event loop; `close` writes what is left."""

    def __init__(self, resources: Resources, *, flush_s: float = FLUSH_S) -> None:
        self._resources = resources
        self._flush_s = flush_s
        self._sums: dict[tuple[str, str, str, int], _Sum] = {}
        # Frozen deltas keep their ids until the database has taken them: a flush whose answer was lost is repeated
        # and counts once.
        self._unwritten: list[UsageDelta] = []
        self._flusher: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()

    async def start(self) -> None:
        """Flush from now on every `flush_s`."""
        self._flusher = asyncio.create_task(self._flush_forever(), name="usage")

    async def close(self) -> None:
        """Write what was counted; raises what the database raises, after three attempts."""
        if self._flusher is not None:
            self._flusher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flusher
            self._flusher = None
        for attempt in range(3):
            try:
                await self.flush()
            except Exception:
                if attempt == 2:
                    log.exception("usage.lost", deltas=[str(delta) for delta in self._unwritten])
                    raise
                await asyncio.sleep(0.5)
            else:
                return

    def count(self, customer_id: str, model: str, work: Work, *, kind: str = "prediction") -> None:
        """Count one answered request."""
        hour = int(time.time()) // HOUR_S * HOUR_S
        at = self._sums.get((customer_id, model, kind, hour))
        if at is None:
            at = self._sums[customer_id, model, kind, hour] = _Sum()
        at.requests += 1
        at.rows += work.rows
        at.tokens += work.tokens
        at.seconds += work.seconds

    async def flush(self) -> None:
        """Write what was counted so far."""
        async with self._flushing:
            sums, self._sums = self._sums, {}
            self._unwritten.extend(
                UsageDelta(customer_id, model, at.requests, at.rows, at.tokens, at.seconds, kind=kind, hour=hour)
                for (customer_id, model, kind, hour), at in sums.items()
            )
            deltas = list(self._unwritten)
            await asyncio.to_thread(usage.record_predictions, self._resources, deltas)
            del self._unwritten[: len(deltas)]

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(self._flush_s)
            try:
                await self.flush()
            except Exception as error:
                log.warning("usage.flush_failed", error=str(error), deltas=len(self._unwritten))
