"""Answers of the database, remembered: bounded, one question at a time per key, safe against changes under way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import GraftError

Value = TypeVar("Value")

# So many names of one subject: a customer who guesses names evicts only itself.
KEYS_PER_SUBJECT = 1_000


@dataclass(frozen=True, slots=True)
class Entry(Generic[Value]):
    """What was answered. `error` instead of a value: it is known not to be there."""

    known_at: float  # monotonic seconds, before the question was asked
    value: Value | None
    error: GraftError | None = None

    def unwrap(self) -> Value | None:
        """The value; raises the error that was remembered."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        return self.value


@dataclass(slots=True)
class _Flight(Generic[Value]):
    task: asyncio.Future[Entry[Value]]
    stale: bool = False  # its subject changed after the question was asked: give the answer, do not keep it


class LookupCache(Generic[Value]):
    """Entries by subject (what a change names) and key (what is asked). Belongs to one event loop."""

    def __init__(self, *, subjects: int, is_fresh: Callable[[Entry[Value]], bool]) -> None:
        self._limit = subjects
        self._is_fresh = is_fresh
        self._entries: OrderedDict[str, dict[str, Entry[Value]]] = OrderedDict()
        self._flights: dict[tuple[str, str], _Flight[Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, subject: str) -> bool:
        return subject in self._entries

    def peek(self, subject: str, key: str) -> Entry[Value] | None:
        """What is remembered and still trusted, without asking."""
        held = self._entries.get(subject)
        if held is None:
            return None
        entry = held.get(key)
        if entry is None or not self._is_fresh(entry):
            return None
        self._entries.move_to_end(subject)
        return entry

    async def get(self, subject: str, key: str, ask: Callable[[], Value | None]) -> Entry[Value]:
        """What is remembered, or what `ask` answers (on a thread, once however many callers wait).

        An error that says "not there" (404, 409) is remembered like an answer; any other is raised to all who wait.
        """
        entry = self.peek(subject, key)
        if entry is not None:
            return entry
        flight = self._flights.get((subject, key))
        if flight is None:
            flight = _Flight(asyncio.ensure_future(self._ask(ask)))
            self._flights[(subject, key)] = flight
            started = flight
            started.task.add_done_callback(lambda _: self._land(subject, key, started))
        # Shielded: one caller that gives up does not take the answer from the others.
        return await asyncio.shield(flight.task)

    def forget(self, subject: str) -> None:
        """Drop everything about a subject, answers that are under way included."""
        self._entries.pop(subject, None)
        for at, flight in list(self._flights.items()):
            if at[0] == subject:
                flight.stale = True
                del self._flights[at]

    def clear(self) -> None:
        """Drop everything."""
        for subject in [*self._entries, *(subject for subject, _ in self._flights)]:
            self.forget(subject)

    async def _ask(self, ask: Callable[[], Value | None]) -> Entry[Value]:
        known_at = asyncio.get_running_loop().time()
        try:
            return Entry(known_at, await asyncio.to_thread(ask))
        except GraftError as error:
            if error.status in (404, 409):
                return Entry(known_at, None, error)
            raise

    def _land(self, subject: str, key: str, flight: _Flight[Value]) -> None:
        if self._flights.get((subject, key)) is flight:
            del self._flights[(subject, key)]
        if flight.task.cancelled() or flight.task.exception() is not None or flight.stale:
            return
        held = self._entries.setdefault(subject, {})
        if len(held) >= KEYS_PER_SUBJECT:
            held.clear()
        held[key] = flight.task.result()
        self._entries.move_to_end(subject)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
