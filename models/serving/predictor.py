"""The predictor: which version answers, its adapter, its runner, the task's answer. No database on the way."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import structlog
from numpy.typing import NDArray

from models import process_memory
from models.backbones import registry
from models.datasets import tasks as data_tasks
from models.datasets.examples import Input
from models.datasets.tasks.task import Task
from models.errors import GraftError, NotFound
from models.learning import tasks
from models.learning.tasks.task import AnsweredTask
from models.services.access.resolver import AccessResolver, Principal, RefreshTiming
from models.services.catalog import ResolvedVersion
from models.services.files import limits_from
from models.services.resources import Resources, open_resources
from models.serving.adapters.cache import AdapterCache
from models.serving.adapters.disk_cache import ArtifactDiskCache
from models.serving.customer_threads import CustomerThreads
from models.serving.decoding import check_options, check_size, decode
from models.serving.errors import InvalidInput
from models.serving.inputs import is_slow_to_read, read_text
from models.serving.runner import Answered, Runner, ServedAdapter
from models.serving.runner_pool import RunnerPool
from models.serving.runners import DEFAULT_RUNNER, WRITING_RUNNER, runner_of
from models.serving.usage import UsageMeter, Work
from models.serving.writing import WritingRunner
from models.serving.written_answer import WriteCall, WrittenAnswer
from models.settings import Settings

log = structlog.get_logger(__name__)

_LARGE_BYTES = 4 * 2**20  # of an adapter with blocks of its own; freed heads are soon taken by other heads


@dataclass(frozen=True, slots=True)
class PredictCall:
    """One request of one customer."""

    customer_id: str
    customer_name: str
    model_ref: str  # name, `ft:…`, name@3, name@alias
    inputs: Sequence[Any]
    top_k: int | None = None  # of labels and boxes; None: one label, or all boxes
    min_score: float | None = None  # of boxes; None: the version's own


@dataclass(frozen=True, slots=True)
class PredictAnswer:
    """Predictions in the order of the inputs."""

    full_name: str
    version: int
    task: str
    predictions: list[dict[str, Any]]
    usage: dict[str, int]  # rows, tokens
    timings: dict[str, float]  # milliseconds: queue, tokenize, compute, total
    truncated: tuple[int, ...] = ()  # inputs that are not read to their end


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors in the order of the texts."""

    vectors_ND: NDArray[np.float32]
    tokens: int  # that were read
    truncated: tuple[int, ...]  # texts that are not read to their end


class Predictor:
    """Answers for all customers of a process. Belongs to one event loop; `start` before use, `close` after."""

    def __init__(
        self, settings: Settings, resources: Resources | None = None, artifacts: ArtifactDiskCache | None = None
    ) -> None:
        """Create a predictor; what is not passed, `resources` or `artifacts`, is opened here and closed with it."""
        self._settings = settings
        self._limits = limits_from(settings)
        self._owns_resources = resources is None
        self._resources = open_resources(settings) if resources is None else resources
        self.access = AccessResolver(
            self._resources,
            RefreshTiming(poll_s=settings.directory_poll_s),
            on_change=self._prefetch,
            on_customer_gone=self._forget_customer,
            on_version_gone=self._forget_version,
        )
        self.artifacts = artifacts or ArtifactDiskCache(
            self._resources.store, settings.cache_dir / "adapters", limit_bytes=settings.adapter_disk_bytes
        )
        self.cache: AdapterCache[ServedAdapter] = AdapterCache(
            self._load_adapter, limit_bytes=settings.adapter_memory_bytes
        )
        self.meter = UsageMeter(self._resources)
        self._runners = RunnerPool(settings)
        self._reading = CustomerThreads("read")
        self._prefetches: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the default base, follow the changes, begin to count."""
        await self._runners.get(DEFAULT_RUNNER, self._settings.base_model)
        if self._settings.generation_upstream:
            await self._find_upstream()
        await self.access.start()
        await self.meter.start()

    async def close(self) -> None:
        """Answer what waits, write the usage, let go of everything. Safe after a failed start, and twice."""
        for task in self._prefetches:
            task.cancel()
        self._reading.close()
        await self._runners.close()
        await asyncio.sleep(0)  # callers that were answered just now count their usage first
        await self.access.close()
        while self._removals:  # nothing of a deleted customer stays
            await asyncio.wait(self._removals)
        self.cache.close()
        self.artifacts.close()
        try:
            await self.meter.close()
        finally:
            if self._owns_resources:
                self._owns_resources = False
                await asyncio.to_thread(self._resources.close)

    @property
    def alive(self) -> bool:
        """Whether every open runner still computes."""
        return all(runner.alive for runner in self._runners.all())

    def runners(self) -> list[Runner[Any]]:
        """Runners that are open."""
        return self._runners.all()

    async def authenticate(self, secret: str) -> Principal:
        """Return whom a key speaks for; raises InvalidKey."""
        return await self.access.authenticate(secret)

    async def predict(self, call: PredictCall) -> PredictAnswer:
        """Answer one request.

        Raises NotFound, ModelNotReady, InvalidInput, QueueFull, ArtifactBroken, StorageUnavailable, ShuttingDown.
        """
        began_at = time.perf_counter()
        version = await self.access.resolve(call.customer_id, call.model_ref)
        runner = await self._runner(version)  # first: adapters are assembled for it
        adapter = self.cache.peek(version)
        if adapter is None:
            adapter = await self.cache.get(version)
        task = tasks.find(adapter.task)
        inputs = await self._read(runner, adapter, task, call)
        answered = await self._submit(call.customer_id, version, runner, adapter, inputs)
        predictions = await decode(task, adapter, answered, top_k=call.top_k, min_score=call.min_score)
        timings = answered.timings_ms()
        timings["total"] = (time.perf_counter() - began_at) * 1e3
        return PredictAnswer(
            full_name=version.full_name,
            version=version.number,
            task=adapter.task,
            predictions=predictions,
            usage={"rows": len(inputs), "tokens": answered.tokens},
            timings=timings,
            truncated=tuple(sorted(answered.truncated)),
        )

    async def writes(self, customer_id: str, model_ref: str) -> bool:
        """Return whether a model answers in words of its own. Raises NotFound and ModelNotReady."""
        try:
            return runner_of(await self.access.resolve(customer_id, model_ref)) == WRITING_RUNNER
        except NotFound:
            if self._writing_base(model_ref):
                return True
            raise

    async def task_of(self, customer_id: str, model_ref: str) -> Task:
        """Return the task that a model has learned. Raises NotFound and ModelNotReady."""
        return data_tasks.TASKS[(await self.access.resolve(customer_id, model_ref)).task]

    async def write(self, call: WriteCall) -> WrittenAnswer:
        """Begin to write an answer; whoever listens closes it.

        Raises NotFound, ModelNotReady, InvalidInput, ContextLengthExceeded, QueueFull, ArtifactBroken,
        StorageUnavailable, BaseModelUnreachable, ShuttingDown.
        """
        customer_id, model, number = call.customer_id, call.model_ref, "base"
        adapter: ServedAdapter
        try:
            version = await self.access.resolve(customer_id, model)
        except NotFound:
            if not self._writing_base(model):
                raise
            runner = cast("WritingRunner[Any]", await self._runners.get(WRITING_RUNNER, model))
            adapter = runner.plain_adapter()
        else:
            if runner_of(version) != WRITING_RUNNER:
                reason = f"'{model}' answers with {version.task}, not with text that it writes: ask it by predict."
                raise InvalidInput(reason=reason, param="model")
            runner = cast("WritingRunner[Any]", await self._runner(version))
            adapter = await self.cache.get(version)
            model, number = version.full_name, f"v{version.number}"
        writing = await runner.write(customer_id, adapter, call.request)
        return WrittenAnswer(writing, self.meter, customer_id=customer_id, model=model, version=number)

    async def embed(self, texts: Sequence[Any], base_model: str, *, customer_id: str = "") -> Embedded:
        """Return the base's own vectors: the L2-normalised mean of the last layer.

        Raises UnknownBaseModel, InvalidInput, QueueFull. Without a customer nothing is counted.
        """
        entry = registry.find(self._settings, base_model)
        if entry.modality != "text":
            raise InvalidInput(reason=f"{base_model} reads {entry.modality}, not text.", param="model")
        if entry.kind == "decoder":
            raise InvalidInput(reason=f"{base_model} writes; it has no embeddings.", param="model")
        runner = await self._runners.get(DEFAULT_RUNNER, base_model)
        inputs = [read_text(text, f"input[{at}]", self._limits) for at, text in enumerate(texts)]
        answered = await runner.submit(customer_id, runner.base_adapter, inputs)
        if customer_id:
            self._count(customer_id, base_model, answered, kind="embedding")
        return Embedded(np.stack(answered.outputs), answered.tokens, tuple(sorted(answered.truncated)))

    async def _read(
        self, runner: Runner[Any], adapter: ServedAdapter, task: AnsweredTask, call: PredictCall
    ) -> list[Input]:
        """Return the inputs of a call. Raises InvalidInput, whose `param` says which is wrong, and ShuttingDown."""
        count, most = len(call.inputs), self._settings.max_inputs
        if not 1 <= count <= most:
            raise InvalidInput(reason=f"inputs holds {count}, 1 to {most} are accepted.", param="inputs")
        check_options(task, top_k=call.top_k, min_score=call.min_score)
        check_size(task, inputs=count, labels=len(adapter.labels), top_k=call.top_k or 1)

        def read(index: int) -> Input:
            return runner.read(adapter, call.inputs[index], f"inputs[{index}]", self._limits)

        if not is_slow_to_read(adapter.task):
            return [read(index) for index in range(count)]
        # One after the other: customers take turns picture by picture, however many a request holds.
        return [await self._reading.run(call.customer_id, functools.partial(read, index)) for index in range(count)]

    async def _submit(
        self,
        customer_id: str,
        version: ResolvedVersion,
        runner: Runner[Any],
        adapter: ServedAdapter,
        inputs: Sequence[Input],
    ) -> Answered:
        """Answer inputs and count it; of what is written, also what was computed for a caller that leaves."""
        if runner_of(version) == WRITING_RUNNER:
            count = functools.partial(self.meter.count, customer_id, version.full_name)
            return await cast("WritingRunner[Any]", runner).submit(customer_id, adapter, inputs, count)
        answered = await runner.submit(customer_id, adapter, inputs)
        self._count(customer_id, version.full_name, answered, kind="prediction")
        return answered

    def _writing_base(self, name: str) -> bool:
        entry = registry.entries(self._settings).get(name)
        return entry is not None and entry.kind == "decoder"

    def _count(self, customer_id: str, model: str, answered: Answered, *, kind: str) -> None:
        work = Work(len(answered.outputs), answered.tokens, answered.compute_s)
        self.meter.count(customer_id, model, work, kind=kind)

    async def _find_upstream(self) -> None:
        # At the start: an operator reads at once what is set up wrongly. Without it everything else is answered.
        try:
            await self._runners.get(WRITING_RUNNER, self._settings.generation_base_model)
        except GraftError as error:
            log.error("upstream.not_found", error=str(error))

    async def _runner(self, version: ResolvedVersion) -> Runner[Any]:
        return await self._runners.get(runner_of(version), version.base_model)

    def _load_adapter(self, version: ResolvedVersion) -> ServedAdapter:
        # On a loader's thread; the runner was opened before the cache was asked.
        runner = self._runners.opened(runner_of(version), version.base_model)
        adapter: ServedAdapter = runner.assemble(self.artifacts.read(version), version)
        if adapter.nbytes >= _LARGE_BYTES:
            process_memory.give_back()  # what assembling it took, and what was evicted for the one before
        return adapter

    def _prefetch(self, customer_id: str, model_name: str, was_cached: bool) -> None:
        # What was just published will be asked for: by a customer of this predictor's, or by any other where there is
        # room. It must not push out what is in use.
        if not was_cached and self.cache.bytes * 2 > self._settings.adapter_memory_bytes:
            return
        task = asyncio.create_task(self._warm_up(customer_id, model_name), name="prefetch")
        self._prefetches.add(task)
        task.add_done_callback(self._prefetches.discard)

    async def _warm_up(self, customer_id: str, model_name: str) -> None:
        try:
            version = await self.access.resolve(customer_id, model_name)
            await self._runner(version)
            await self.cache.get(version)
            self.cache.drop_others(version)
        except GraftError as error:  # it is raised to the request that names the model
            log.info("prefetch.failed", model=model_name, error=str(error))

    def _forget_customer(self, customer_id: str) -> None:
        self.cache.drop_customer(customer_id)
        for runner in self.runners():
            runner.forget_customer(customer_id)
        self._remove(lambda: self.artifacts.remove_customer(customer_id))

    def _forget_version(self, customer_id: str, manifest_sha256: str) -> None:
        self.cache.drop(customer_id, manifest_sha256)
        for runner in self.runners():
            runner.forget_version(customer_id, manifest_sha256)
        self._remove(lambda: self.artifacts.remove_version(customer_id, manifest_sha256))

    def _remove(self, work: Callable[[], None]) -> None:
        task = asyncio.create_task(asyncio.to_thread(work), name="remove")
        self._removals.add(task)
        task.add_done_callback(self._end_removal)

    def _end_removal(self, task: asyncio.Task[None]) -> None:
        self._removals.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("removal.failed", error=str(error))
