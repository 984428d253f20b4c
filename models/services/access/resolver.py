"""Callers by their keys and live versions by their names, from a cache, so that the hot path never asks the database.

What is cached is forgotten when the change log names it, which is read every `poll_s`. When it cannot be read (the
database is away), an entry is trusted for `expiry_s` after it was last known to be true, no longer: a revoked key is
refused within that time whatever happens. No torch: a process of the control plane alone uses it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from models.errors import NotFound
from models.identifiers import LONGEST_REFERENCE
from models.records.changes import Changed
from models.services import catalog, changes, keys
from models.services.access.errors import CustomerSuspended, InvalidKey, KeyExpired, KeyRevoked
from models.services.access.lookup_cache import Entry, LookupCache
from models.services.access.threads import AccessThreads
from models.services.catalog import ResolvedVersion
from models.services.keys import KeyRecord
from models.services.resources import Resources

log = structlog.get_logger(__name__)

# Rows of the change log become visible in the order of their commits, not of their numbers: each poll reads again
# what is this old. A writer that needs longer than that to commit is noticed by a look back every minute
# (`look_back_every_s`, as far as MAX_AGE_S), and one that needs longer still by looking up again what is so old.
# Looking up every entry again each minute instead took half of the throughput where 10,000 customers call.
OVERLAP_S = 15.0
MAX_AGE_S = 900.0
# Unknown keys and names are remembered too, or guessing would be a way to load the database; but briefly, because a
# new one is not a change of anything that was cached.
NEGATIVE_S = 1.0
# After a longer gap the change log may have been trimmed: everything is looked up again.
GAP_S = 600.0
# How often the last uses of keys are written.
TOUCH_S = 10.0
SUBJECTS = 100_000
# Characters that an error repeats of a reference that is too long.
LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class RefreshTiming:
    """Timing in seconds: how often the change log is read, and how long entries are used when it cannot be."""

    poll_s: float = 1.0
    expiry_s: float = 5.0
    look_back_every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Principal:
    """The customer whose key it is."""

    customer_id: str
    customer_name: str
    key_id: str
    scopes: frozenset[str]
    expires_at: float | None = None


class AccessResolver:
    """Keys and live versions. Belongs to one event loop; `start` before use, `close` after."""

    def __init__(
        self,
        resources: Resources,
        timing: RefreshTiming = RefreshTiming(),
        *,
        on_change: Callable[[str, str, bool], None] | None = None,
        on_customer_gone: Callable[[str], None] | None = None,
        on_version_gone: Callable[[str, str], None] | None = None,
    ) -> None:
        """Create a resolver that reports changes.

        `on_change` is called with the customer and the name of a model that changed, and whether that customer asked
        for a model lately; `on_customer_gone` with a customer that was deleted, `on_version_gone` with the customer and
        the hash of the manifest of a version that was.
        """
        self._resources = resources
        self._timing = timing
        self._on_change = on_change
        self._on_customer_gone = on_customer_gone
        self._on_version_gone = on_version_gone
        self._threads = AccessThreads()
        self._keys: LookupCache[KeyRecord] = LookupCache(
            subjects=SUBJECTS, is_fresh=self._is_fresh, threads=self._threads
        )
        self._versions: LookupCache[ResolvedVersion] = LookupCache(
            subjects=SUBJECTS, is_fresh=self._is_fresh, threads=self._threads
        )
        # Hashes of keys that exist, the oldest first. Not the cache: a change forgets entries, be it another customer's
        # end, and a key in use must not be taken for a guess because it has to be looked up again.
        self._found: dict[str, None] = {}
        self._used: dict[str, float] = {}  # key id → last use (Unix seconds), not written yet
        # Changes that were applied, with when (monotonic). Not their numbers alone: SQLite gives the last row's number
        # again once it is deleted, as a deleted customer's rows are in the transaction that tells of it.
        self._applied: dict[Changed, float] = {}
        self._polled_at: float | None = None  # when the last successful poll began (monotonic)
        self._looked_back_at: float | None = None  # when the last one that read MAX_AGE_S began
        self._poller: asyncio.Task[None] | None = None

    @property
    def age_s(self) -> float | None:
        """Seconds since the last successful look at the changes; None before the first."""
        return None if self._polled_at is None else time.monotonic() - self._polled_at

    async def start(self) -> None:
        """Begin to follow the change log."""
        await self._poll(first=True)
        self._poller = asyncio.create_task(self._follow(), name="access")

    async def close(self) -> None:
        """Stop following it."""
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller
            self._poller = None
        await self._touch()
        self._threads.close()

    def knows(self, secret: str) -> bool:
        """Whether the key existed when it was last looked up, whatever was forgotten since."""
        return _digest(secret) in self._found

    async def authenticate(self, secret: str) -> Principal:
        """Return the customer whose key this is; raises InvalidKey, KeyRevoked, KeyExpired, CustomerSuspended."""
        sha256 = _digest(secret)
        entry = self._keys.peek(sha256, "")
        if entry is None:
            entry = await self._keys.get(sha256, "", lambda: keys.find(self._resources, sha256))
        record = entry.unwrap()
        now = time.time()
        if record is None:
            self._found.pop(sha256, None)
            raise InvalidKey()
        self._found[sha256] = None
        if len(self._found) > SUBJECTS:
            del self._found[next(iter(self._found))]
        # The caller holds the whole secret: it may know what became of it.
        if _is_past(record.revoked_at, now):
            raise KeyRevoked()
        if _is_past(record.expires_at, now):
            raise KeyExpired()
        if record.suspended:
            raise CustomerSuspended()
        self._used[record.key_id] = now
        return Principal(record.customer_id, record.customer_name, record.key_id, record.scopes, record.expires_at)

    async def resolve(self, customer_id: str, model_ref: str) -> ResolvedVersion:
        """Return the version that a reference names (`name`, `ft:…`, `name@3`, `name@alias`).

        Raises NotFound, and ModelNotReady while the model's first job has published nothing.
        """
        if len(model_ref) > LONGEST_REFERENCE:
            raise NotFound(kind="model", id=f"{model_ref[:LONGEST_SHOWN]}…", param="model")
        entry = self._versions.peek(customer_id, model_ref)
        if entry is None:
            entry = await self._versions.get(
                customer_id, model_ref, lambda: catalog.resolve(self._resources, customer_id, model_ref)
            )
        version = entry.unwrap()
        if version is None:
            raise NotFound(kind="model", id=model_ref, param="model")
        return version

    def forget(self, customer_id: str, model_name: str) -> None:
        """Drop what is cached of a model that this process changed itself: its own answers must not lag behind it."""
        self._apply(Changed(0, "model", customer_id, model_name))

    def _is_fresh(self, entry: Entry[object] | Entry[KeyRecord] | Entry[ResolvedVersion]) -> bool:
        now = time.monotonic()
        if entry.value is None:
            return now < entry.known_at + NEGATIVE_S
        known_at = entry.known_at if self._polled_at is None else max(entry.known_at, self._polled_at)
        return now < known_at + self._timing.expiry_s and now < entry.known_at + MAX_AGE_S

    async def _follow(self) -> None:
        touch_at = time.monotonic() + TOUCH_S
        while True:
            await asyncio.sleep(self._timing.poll_s)
            await self._poll()
            if time.monotonic() >= touch_at:
                await self._touch()
                touch_at = time.monotonic() + TOUCH_S

    async def _touch(self) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._threads.run(keys.touch, self._resources, used)
        except Exception as error:
            log.warning("access.touch_failed", error=str(error))

    async def _poll(self, *, first: bool = False) -> None:
        began_at = time.monotonic()
        gap_s = 0.0 if self._polled_at is None else began_at - self._polled_at
        if gap_s > GAP_S:
            self._keys.clear()
            self._versions.clear()
            gap_s = 0.0
        looks_back = self._looked_back_at is None or began_at >= self._looked_back_at + self._timing.look_back_every_s
        window_s = MAX_AGE_S if looks_back else OVERLAP_S
        try:
            rows = await self._threads.run(changes.since, self._resources, gap_s + window_s)
        except Exception as error:
            log.warning("access.poll_failed", error=str(error))
            return
        for row in rows:
            if row not in self._applied and not first:
                self._apply(row)
            self._applied[row] = began_at
        self._polled_at = began_at
        if looks_back:
            self._looked_back_at = began_at
            horizon = began_at - 2 * MAX_AGE_S
            self._applied = {change: at for change, at in self._applied.items() if at > horizon}

    def _apply(self, change: Changed) -> None:
        if change.kind == "key":
            self._keys.forget(change.subject)
            return
        if change.kind == "file_deleted":  # for workers
            return
        if change.kind == "version_deleted":
            if self._on_version_gone is not None and change.name is not None:
                self._on_version_gone(change.subject, change.name)
            return
        was_cached = change.subject in self._versions
        self._versions.forget(change.subject)
        if change.kind == "customer":
            # Its keys are not listed in the change; a deleted customer is rare and a key costs one lookup.
            self._keys.clear()
            if self._on_customer_gone is not None:
                self._on_customer_gone(change.subject)
        elif change.name is not None and self._on_change is not None:
            self._on_change(change.subject, change.name, was_cached)


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
