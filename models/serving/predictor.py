"""The predictor: who is calling, which version answers, its adapter, the engine, the answer. No database on the way."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from models.backbones import loading, registry
from models.backbones.precision import count_threads
from models.errors import GraftError
from models.services.access.resolver import AccessResolver, Principal
from models.services.catalog import ResolvedVersion
from models.services.files import limits_from
from models.services.resources import Resources, open_resources
from models.serving.adapters.adapter import Adapter
from models.serving.adapters.assembly import assemble
from models.serving.adapters.cache import AdapterCache
from models.serving.adapters.disk_cache import ArtifactDiskCache
from models.serving.decoding import decodes_at_once, read_inputs, read_text, served
from models.serving.encoders.engine import Engine
from models.serving.encoders.requests import Request
from models.serving.errors import InvalidInput
from models.serving.usage import UsageMeter
from models.settings import Settings

log = structlog.get_logger(__name__)

# What a dominant adapter's own blocks may take beside the adapters: this part of what those may.
MERGED_SHARE = 4


@dataclass(frozen=True, slots=True)
class PredictCall:
    """One request of one customer."""

    customer_id: str
    customer_name: str
    model_ref: str  # name, `ft:…`, name@3, name@alias
    inputs: Sequence[Any]
    top_k: int = 1


@dataclass(frozen=True, slots=True)
class PredictAnswer:
    """Predictions in the order of the inputs."""

    full_name: str
    version: int
    task: str
    predictions: list[dict[str, Any]]
    usage: dict[str, int]  # rows, tokens
    timings: dict[str, float]  # milliseconds: queue, tokenize, compute, total


class Predictor:
    """All engines of a process. Belongs to one event loop; `start` before use, `close` after."""

    def __init__(self, settings: Settings, resources: Resources | None = None) -> None:
        """Without `resources` they are opened here, and closed with the predictor."""
        self._settings = settings
        self._limits = limits_from(settings)
        self._owns_resources = resources is None
        self._resources = open_resources(settings) if resources is None else resources
        self.directory = AccessResolver(
            self._resources,
            poll_s=settings.directory_poll_s,
            on_change=self._prefetch,
            on_customer_gone=self._forget_customer,
        )
        self.depot = ArtifactDiskCache(
            self._resources.store, settings.cache_dir / "adapters", limit_bytes=settings.adapter_disk_bytes
        )
        self.cache = AdapterCache(self._load_adapter, limit_bytes=settings.adapter_memory_bytes)
        self.meter = UsageMeter(self._resources)
        self._lanes = count_threads(settings.threads)
        self._processor = threading.Semaphore(self._lanes)  # shared by the engines of all bases
        self._engines: dict[str, asyncio.Task[Engine]] = {}
        self._prefetches: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the default base, follow the changes, begin to count."""
        await self._engine(self._settings.base_model)
        await self.directory.start()
        await self.meter.start()

    async def close(self) -> None:
        """Answer what waits, write the usage, let go of everything. Safe after a failed start, and twice."""
        for task in self._prefetches:
            task.cancel()
        engines, self._engines = self._engines, {}
        for loading_engine in engines.values():
            with contextlib.suppress(Exception):
                await (await loading_engine).close()
        await asyncio.sleep(0)  # callers that were answered just now count their usage first
        await self.directory.close()
        while self._removals:  # nothing of a deleted customer stays
            await asyncio.wait(self._removals)
        self.cache.close()
        self.depot.close()
        try:
            await self.meter.close()
        finally:
            if self._owns_resources:
                self._owns_resources = False
                await asyncio.to_thread(self._resources.close)

    def engines(self) -> list[Engine]:
        """The engines that are ready."""
        return [
            task.result()
            for task in self._engines.values()
            if task.done() and not task.cancelled() and task.exception() is None
        ]

    async def authenticate(self, secret: str) -> Principal:
        """Whom a key speaks for; raises InvalidKey."""
        return await self.directory.authenticate(secret)

    async def predict(self, call: PredictCall) -> PredictAnswer:
        """Answer one request.

        Raises NotFound, ModelNotReady, InvalidInput, QueueFull, ArtifactBroken, StorageUnavailable, ShuttingDown.
        """
        began_at = time.perf_counter()
        version = await self.directory.resolve(call.customer_id, call.model_ref)
        adapter = self.cache.peek(version)
        if adapter is None:
            await self._engine(version.base_model)
            adapter = await self.cache.get(version)
        task = served(adapter.task)
        read = partial(
            read_inputs,
            task,
            adapter.reading,
            call.inputs,
            labels=len(adapter.labels),
            top_k=call.top_k,
            max_inputs=self._settings.max_inputs,
            limits=self._limits,
        )
        inputs = await asyncio.to_thread(read) if task.reads_long else read()
        engine = await self._engine(version.base_model)
        request = await engine.submit(call.customer_id, adapter, inputs)
        self._count(call.customer_id, version.full_name, request, kind="prediction")
        if decodes_at_once(request):
            predictions = task.decode(request, call.top_k)
        else:
            predictions = await asyncio.to_thread(task.decode, request, call.top_k)
        timings = request.timings_ms()
        timings["total"] = (time.perf_counter() - began_at) * 1e3
        return PredictAnswer(
            full_name=version.full_name,
            version=version.number,
            task=adapter.task,
            predictions=predictions,
            usage={"rows": len(inputs), "tokens": request.tokens},
            timings=timings,
        )

    async def embed(
        self, texts: Sequence[Any], base_model: str, *, customer_id: str = ""
    ) -> tuple[NDArray[np.float32], int]:
        """The base's own vectors (L2-normalised mean of the last layer), (N, D), and how many tokens were read.

        Raises UnknownBaseModel, InvalidInput, QueueFull. Without a customer nothing is counted.
        """
        entry = registry.find(self._settings, base_model)
        if entry.modality != "text":
            raise InvalidInput(reason=f"{base_model} reads {entry.modality}, not text.", param="model")
        engine = await self._engine(base_model)
        inputs = [read_text(text, f"input[{at}]", self._limits) for at, text in enumerate(texts)]
        request = await engine.submit(customer_id, engine.embedding, inputs)
        if customer_id:
            self._count(customer_id, base_model, request, kind="embedding")
        return np.stack(request.outputs), request.tokens

    def _count(self, customer_id: str, model: str, request: Request, *, kind: str) -> None:
        self.meter.count(
            customer_id, model, rows=len(request.outputs), tokens=request.tokens, seconds=request.compute_s, kind=kind
        )

    async def _engine(self, base_model: str) -> Engine:
        loading_engine = self._engines.get(base_model)
        if loading_engine is None:
            entry = registry.find(self._settings, base_model)
            loading_engine = asyncio.create_task(self._open_engine(entry), name=f"load-{base_model}")
            self._engines[base_model] = loading_engine
        if loading_engine.done() and not loading_engine.cancelled() and loading_engine.exception() is None:
            return loading_engine.result()
        try:
            return await asyncio.shield(loading_engine)
        except Exception:
            self._engines.pop(base_model, None)  # the next request tries again
            raise

    async def _open_engine(self, entry: registry.BackboneEntry) -> Engine:
        settings = self._settings
        backbone = await asyncio.to_thread(
            loading.load, entry, device=settings.device, precision=settings.precision, threads=settings.threads
        )
        on_cpu = backbone.device.type == "cpu"
        engine = Engine(
            backbone,
            batch_tokens=settings.batch_tokens,
            queue_per_customer=settings.queue_per_customer,
            lanes=self._lanes if on_cpu else 1,
            device=self._processor if on_cpu else None,
            merged_bytes=settings.adapter_memory_bytes // MERGED_SHARE,
        )
        engine.start()
        log.info("engine.started", base_model=entry.name, device=str(backbone.device), precision=str(backbone.dtype))
        return engine

    def _load_adapter(self, version: ResolvedVersion) -> Adapter:
        # On a loader's thread; whoever asked has opened the engine of the base before.
        engine = self._engines[version.base_model].result()
        return assemble(self.depot.read(version), version, engine.backbone)

    def _prefetch(self, customer_id: str, model_name: str, was_here: bool) -> None:
        # What was just published will be asked for: by a customer of this predictor's, or by anybody where there is
        # room. It must not push out what is in use.
        if not was_here and self.cache.bytes * 2 > self._settings.adapter_memory_bytes:
            return
        task = asyncio.create_task(self._warm_up(customer_id, model_name), name="prefetch")
        self._prefetches.add(task)
        task.add_done_callback(self._prefetches.discard)

    async def _warm_up(self, customer_id: str, model_name: str) -> None:
        try:
            version = await self.directory.resolve(customer_id, model_name)
            await self._engine(version.base_model)
            await self.cache.get(version)
        except GraftError as error:  # whoever asks for the model will see it
            log.info("prefetch.failed", model=model_name, error=str(error))

    def _forget_customer(self, customer_id: str) -> None:
        self.cache.drop_customer(customer_id)
        for engine in self.engines():
            engine.dominance.forget(customer_id)
        task = asyncio.create_task(asyncio.to_thread(self.depot.remove_customer, customer_id), name="remove")
        self._removals.add(task)
        task.add_done_callback(self._end_removal)

    def _end_removal(self, task: asyncio.Task[None]) -> None:
        self._removals.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("removal.failed", error=str(error))
