"""A bounded cache of database lookups: one lookup at a time per key, safe against changes under way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import GraftError
from models.services.access.threads import AccessThreads

Value = TypeVar("Value")

# So many names of one subject: a customer that guesses names evicts only its own.
KEYS_PER_SUBJECT = 1_000


@dataclass(frozen=True, slots=True)
class Entry(Generic[Value]):
    """The result of a lookup. `error` instead of a value: it is known not to be there."""

    known_at: float  # monotonic seconds, before the lookup began
    value: Value | None
    error: GraftError | None = None

    def unwrap(self) -> Value | None:
        """Return the value, or raise the error that was remembered."""
        if self.error is not None:
            raise self.error.anew()
        return self.value


@dataclass(slots=True)
class _Lookup(Generic[Value]):
    task: asyncio.Future[Entry[Value]]
    stale: bool = False  # its subject changed after the lookup began: return the result, do not keep it


class LookupCache(Generic[Value]):
    """Entries by subject (what a change names) and key (what is looked up). Belongs to one event loop."""

    def __init__(self, *, subjects: int, is_fresh: Callable[[Entry[Value]], bool], threads: AccessThreads) -> None:
        """Create a cache whose lookups run on `threads`."""
        self._limit = subjects
        self._threads = threads
        self._is_fresh = is_fresh
        self._entries: OrderedDict[str, dict[str, Entry[Value]]] = OrderedDict()
        self._lookups: dict[tuple[str, str], _Lookup[Value]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, subject: str) -> bool:
        return subject in self._entries

    def peek(self, subject: str, key: str) -> Entry[Value] | None:
        """Return the entry if there is one that is still trusted, without a lookup."""
        held = self._entries.get(subject)
        if held is None:
            return None
        entry = held.get(key)
        if entry is None or not self._is_fresh(entry):
            return None
        self._entries.move_to_end(subject)
        return entry

    async def get(self, subject: str, key: str, look_up: Callable[[], Value | None]) -> Entry[Value]:
        """Return the entry, or what `look_up` returns (on a thread, once however many callers wait).

        An error of what is not there (404, 409) is kept like a value; any other is raised to all callers that wait.
        """
        entry = self.peek(subject, key)
        if entry is not None:
            return entry
        lookup = self._lookups.get((subject, key))
        if lookup is None:
            lookup = _Lookup(asyncio.ensure_future(self._run(look_up)))
            self._lookups[(subject, key)] = lookup
            started = lookup
            started.task.add_done_callback(lambda _: self._land(subject, key, started))
        # Shielded: one caller that gives up does not take the result from the others.
        return await asyncio.shield(lookup.task)

    def forget(self, subject: str) -> None:
        """Drop everything about a subject, the results of lookups under way included."""
        self._entries.pop(subject, None)
        for at, lookup in list(self._lookups.items()):
            if at[0] == subject:
                lookup.stale = True
                del self._lookups[at]

    def clear(self) -> None:
        """Drop everything."""
        for subject in [*self._entries, *(subject for subject, _ in self._lookups)]:
            self.forget(subject)

    async def _run(self, look_up: Callable[[], Value | None]) -> Entry[Value]:
        known_at = asyncio.get_running_loop().time()
        try:
            return Entry(known_at, await self._threads.run(look_up))
        except GraftError as error:
            if error.status in (404, 409):
                return Entry(known_at, None, error.anew())
            raise

    def _land(self, subject: str, key: str, lookup: _Lookup[Value]) -> None:
        if self._lookups.get((subject, key)) is lookup:
            del self._lookups[(subject, key)]
        if lookup.task.cancelled() or lookup.task.exception() is not None or lookup.stale:
            return
        held = self._entries.setdefault(subject, {})
        if len(held) >= KEYS_PER_SUBJECT:
            held.clear()
        held[key] = lookup.task.result()
        self._entries.move_to_end(subject)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
