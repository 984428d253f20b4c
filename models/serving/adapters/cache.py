"""Adapters in memory: bounded in bytes, the least recently used goes first, one load per adapter at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar, runtime_checkable

import structlog

from models.services.catalog import ResolvedVersion
from models.serving.errors import ArtifactBroken

log = structlog.get_logger(__name__)

Key = tuple[str, str]  # customer, manifest: never shared between customers, whatever they publish
LOADERS = 8
# A broken artifact is not fetched again by every request for it.
BROKEN_S = 5.0
BROKEN_LIMIT = 10_000


class CachedAdapter(Protocol):
    """One version of one customer's model in memory, whatever it is made of."""

    @property
    def customer_id(self) -> str:
        """The customer to whom it belongs."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes, in bytes."""


@runtime_checkable
class HeldElsewhere(Protocol):
    """An adapter that takes room beyond this process as well."""

    def let_go(self) -> None:
        """Give that room back, once no answer needs it; the cache has dropped the adapter."""


AdapterT = TypeVar("AdapterT", bound=CachedAdapter)


class AdapterCache(Generic[AdapterT]):
    """Memory before the disk cache, for the adapters of all runners. Belongs to one event loop, loads on threads."""

    def __init__(self, load: Callable[[ResolvedVersion], AdapterT], *, limit_bytes: int) -> None:
        """Keep what `load` returns; it blocks, and raises ArtifactBroken and StorageUnavailable."""
        self._load = load
        self.limit_bytes = limit_bytes
        self._held: OrderedDict[Key, AdapterT] = OrderedDict()
        self._models: dict[Key, str] = {}  # of what is held, the model
        self._loading: dict[Key, asyncio.Future[AdapterT]] = {}
        self._broken: OrderedDict[Key, tuple[float, ArtifactBroken]] = OrderedDict()
        self._loaders = ThreadPoolExecutor(LOADERS, "adapters")
        self._gone: set[str] = set()  # customers that were deleted while something of theirs was loading
        self._dropped: set[Key] = set()  # versions of which the same is true
        self.bytes = 0
        self.hits = 0
        self.loads = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._held)

    def peek(self, version: ResolvedVersion) -> AdapterT | None:
        """Return the adapter if it is in memory."""
        key = (version.customer_id, version.manifest_sha256)
        adapter = self._held.get(key)
        if adapter is not None:
            self._held.move_to_end(key)
            self.hits += 1
        return adapter

    async def get(self, version: ResolvedVersion) -> AdapterT:
        """Return the adapter, loaded once however many wait for it. Raises ArtifactBroken, StorageUnavailable."""
        adapter = self.peek(version)
        if adapter is not None:
            return adapter
        # Shielded: one caller that gives up does not take the adapter from the others.
        return await asyncio.shield(self._start(version))

    def prefetch(self, version: ResolvedVersion) -> None:
        """Load in the background, for a request that is expected; errors are raised to that request."""
        if self.peek(version) is None:
            self._start(version)

    def drop(self, customer_id: str, manifest_sha256: str) -> None:
        """Drop one version."""
        key = (customer_id, manifest_sha256)
        if key in self._held:
            self._let_go(key)
        if key in self._loading:
            self._dropped.add(key)

    def drop_others(self, version: ResolvedVersion) -> None:
        """Drop the other versions of a version's model: it answers now, and whoever pins another one loads it again."""
        live = (version.customer_id, version.manifest_sha256)
        for key in [key for key, model in self._models.items() if model == version.model_id and key != live]:
            self._let_go(key)

    def drop_customer(self, customer_id: str) -> None:
        """Drop everything of one customer."""
        for key in [key for key in self._held if key[0] == customer_id]:
            self._let_go(key)
        if any(key[0] == customer_id for key in self._loading):
            self._gone.add(customer_id)

    def close(self) -> None:
        """Stop loading and drop everything. What is held elsewhere stays there: the process ends, not the model."""
        self._loaders.shutdown(wait=False, cancel_futures=True)
        self._held.clear()
        self._models.clear()
        self.bytes = 0

    def _start(self, version: ResolvedVersion) -> asyncio.Future[AdapterT]:
        key = (version.customer_id, version.manifest_sha256)
        loop = asyncio.get_running_loop()
        broken = self._broken.get(key)
        if broken is not None:
            if loop.time() < broken[0] + BROKEN_S:
                raise broken[1].anew()
            del self._broken[key]
        loading = self._loading.get(key)
        if loading is None:
            self.loads += 1
            loading = asyncio.ensure_future(loop.run_in_executor(self._loaders, self._load, version))
            self._loading[key] = loading
            loading.add_done_callback(lambda done: self._land(key, version.model_id, done, loop.time()))
        return loading

    def _land(self, key: Key, model_id: str, loading: asyncio.Future[AdapterT], now: float) -> None:
        del self._loading[key]
        gone = key[0] in self._gone or key in self._dropped
        self._dropped.discard(key)
        if gone and not any(other[0] == key[0] for other in self._loading):
            self._gone.discard(key[0])
        if loading.cancelled():
            return
        error = loading.exception()
        if error is not None:
            log.warning("adapter.load_failed", customer_id=key[0], error=str(error))
            if isinstance(error, ArtifactBroken):
                self._broken[key] = (now, error.anew())
                while len(self._broken) > BROKEN_LIMIT:
                    self._broken.popitem(last=False)
            return
        if gone:
            _let_go_elsewhere(loading.result())  # who waits for it still gets its answer, then it goes
        else:
            self._keep(key, model_id, loading.result())

    def _keep(self, key: Key, model_id: str, adapter: AdapterT) -> None:
        self._held[key] = adapter
        self._models[key] = model_id
        self.bytes += adapter.nbytes
        while self.bytes > self.limit_bytes and self._held:
            # Also the newest, if it alone is larger than the limit: it answers what waits for it and is not kept.
            self._let_go(next(iter(self._held)))
            self.evictions += 1

    def _let_go(self, key: Key) -> None:
        adapter = self._held.pop(key)
        del self._models[key]
        self.bytes -= adapter.nbytes
        _let_go_elsewhere(adapter)


def _let_go_elsewhere(adapter: CachedAdapter) -> None:
    if isinstance(adapter, HeldElsewhere):
        adapter.let_go()
