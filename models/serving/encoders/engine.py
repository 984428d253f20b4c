"""One engine per base model: batches of all customers' rows, pass after pass.

Threads beside the event loop: one tokenises what arrived, the worker threads compute what is tokenised. A worker thread
takes a batch as soon as it has finished the one before: a batch leaves when a thread is idle and never waits for other
rows; those gather while all threads are busy. All take from fair queues, so a large request is cut into slices by
itself.

On a processor there are as many worker threads as compute threads, and each pass runs on one of them: threads that
share a product meet at a barrier in every layer and are as slow as the slowest of them (see `backbones.parallel`).
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Iterable, Sequence

import structlog
import torch

from models.backbones.backbone import Backbone
from models.datasets.examples import Input
from models.datasets.windowing import windowing_of
from models.serving.adapters.adapter import Adapter, embedding_adapter
from models.serving.encoders.engine_parts import EngineLimits, EngineParts
from models.serving.encoders.hot_adapter_merge import HotAdapterMerge
from models.serving.encoders.input_modes import is_cut
from models.serving.encoders.pass_cost import next_pass
from models.serving.encoders.pieces import divide, gather
from models.serving.encoders.requests import NOTHING, QueuedInput, Request, is_quick, queued_inputs, settle
from models.serving.encoders.waiting import WaitingRows
from models.serving.errors import DeviceMemoryFull, PassFailed, ShuttingDown
from models.serving.fair_queue import FairQueue
from models.serving.pass_counts import WAIT_BOUNDS_S, Distribution, PassCounts

log = structlog.get_logger(__name__)

# On a processor a pass gains little beyond this many tokens. Measured with short bf16 texts on one core:
# 1,430 texts/s at 240 tokens a pass (11 ms), 1,480 at 480, 1,700 at 3,800 (150 ms).
CPU_PASS_TOKENS = 320
TOKENIZE_COST = 4_096
# Turns of deficit round-robin, in tokens: a short text; for a customer who had nothing waiting, a handful of them.
QUANTUM = 16
FIRST_TURN = 64
_TOKEN_CHARS = 4  # of an English text


class Engine:
    """Answers rows on one base model. `submit` belongs to one event loop; `start` before, `close` after."""

    def __init__(
        self,
        backbone: Backbone,
        limits: EngineLimits,
        *,
        device: threading.Semaphore | None = None,
        parts: EngineParts | None = None,
    ) -> None:
        """Create an engine; `device` limits how many passes run at a time across the engines that share a device."""
        parts = parts or EngineParts()
        self.backbone = backbone
        self.hot_adapter_merge = parts.hot_adapter_merge or HotAdapterMerge(backbone, limit_bytes=limits.merged_bytes)
        windowing = windowing_of(backbone.entry.max_tokens) if backbone.entry.modality == "text" else None
        self.embedding = embedding_adapter(backbone.blocks, windowing)
        on_cpu = backbone.device.type == "cpu"
        self._budget = min(limits.batch_tokens, CPU_PASS_TOKENS) if on_cpu else limits.batch_tokens
        self._one_thread = on_cpu
        self._worker_threads = limits.worker_threads
        self._device = device or threading.Semaphore(limits.worker_threads)
        self._answer, self._tokenize_inputs = parts.answer, parts.tokenize
        self._raw: FairQueue[QueuedInput] = FairQueue(quantum=QUANTUM, first=FIRST_TURN)
        self._ready: FairQueue[QueuedInput] = FairQueue(quantum=QUANTUM, first=FIRST_TURN)
        self._waiting = WaitingRows(limit=limits.queue_per_customer)
        self._cost = parts.cost
        self._threads: list[threading.Thread] = []
        self._closed = False
        # Worker threads write these.
        self._counting = threading.Lock()
        self._running = 0
        self.passes = 0
        self.rows = 0
        self.tokens = 0
        self.queue_wait_s = Distribution(WAIT_BOUNDS_S)

    def start(self) -> None:
        """Start the threads."""
        name = self.backbone.entry.name
        self._threads = [
            threading.Thread(target=self._tokenize_forever, name=f"tokenize-{name}", daemon=True),
            *(
                threading.Thread(target=self._compute_forever, name=f"compute-{name}-{number}", daemon=True)
                for number in range(self._worker_threads)
            ),
        ]
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closed = True
        self._raw.close()  # the tokenising thread closes the other queue when it has handed over everything
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._threads = []

    async def submit(self, customer_id: str, adapter: Adapter, inputs: Sequence[Input]) -> Request:
        """Wait for the outputs of all inputs. Raises QueueFull and ShuttingDown.

        A caller that is cancelled leaves the queue.
        """
        if self._closed:
            raise ShuttingDown(reason="This predictor is shutting down. Try again.")
        self._waiting.admit(customer_id, len(inputs), rows_per_s=self._worker_threads * self._cost.rows_per_s)
        request = Request(
            customer_id=customer_id,
            adapter=adapter,
            inputs=inputs,
            answered=asyncio.get_running_loop().create_future(),
            outputs=[NOTHING] * len(inputs),
            left=len(inputs),
        )
        most = self.backbone.entry.max_tokens
        if is_quick(inputs) if adapter.windowing is None else is_quick(inputs, longest=_TOKEN_CHARS * most):
            self._ready.put(customer_id, queued_inputs(request, most=most))
        else:
            self._raw.put(customer_id, queued_inputs(request))
        try:
            await request.answered
        except asyncio.CancelledError:
            self._withdraw(request)
            raise
        return request

    @property
    def waiting_rows(self) -> int:
        """Number of rows that no pass has taken yet."""
        return len(self._raw) + len(self._ready)

    @property
    def alive(self) -> bool:
        """Whether every thread runs; without one of them rows would wait for ever."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    @property
    def busy(self) -> bool:
        """True while a pass runs."""
        return self._running > 0

    @property
    def counts(self) -> PassCounts:
        """Counts of what it has computed so far."""
        return PassCounts(
            base_model=self.backbone.entry.name,
            passes=self.passes,
            rows=self.rows,
            tokens=self.tokens,
            waiting_rows=self.waiting_rows,
            queue_wait_s=self.queue_wait_s,
        )

    def waiting_of(self, customer_id: str) -> int:
        """Return how many rows of one customer no pass has taken yet."""
        return self._waiting.of(customer_id)

    def _withdraw(self, request: Request) -> None:
        for queue in (self._raw, self._ready):
            self._waiting.leave(queue.discard(request.customer_id, request))

    def _tokenize_forever(self) -> None:
        while self._raw.wait():
            rows = self._raw.take(TOKENIZE_COST)
            kept = self._tokenize(rows)
            self._waiting.leave(row for row in rows if row.tokenized is None)
            by_customer: dict[str, list[QueuedInput]] = {}
            for row in kept:
                by_customer.setdefault(row.owner.customer_id, []).extend(divide(row, self._budget))
            for customer_id, theirs in by_customer.items():
                self._ready.put(customer_id, theirs)
            # A caller that left while its rows were in no queue could not withdraw them.
            for owner in {id(row.owner): row.owner for row in kept if row.owner.gone}.values():
                self._withdraw(owner)
        self._ready.close()

    def _tokenize(self, rows: Sequence[QueuedInput]) -> list[QueuedInput]:
        """Tokenise what is not yet; return the rows whose caller still waits."""
        rows = [row for row in rows if not row.owner.gone and row.owner.error is None]
        bare = [row for row in rows if row.tokenized is None]
        if not bare:
            return list(rows)
        began_at = time.perf_counter()
        try:
            tokenized = self._tokenize_inputs(
                self.backbone,
                [row.input for row in bare],
                [row.owner.adapter.input_mode for row in bare],
                [row.owner.adapter.windowing for row in bare],
            )
            cut = [is_cut(self.backbone, row.input, found) for row, found in zip(bare, tokenized, strict=True)]
        except BaseException as error:  # a panic of the Rust tokeniser too: these requests fail, the thread goes on
            self._fail(bare, error)
            return [row for row in rows if row.owner.error is None]
        spent_s = (time.perf_counter() - began_at) / len(bare)
        with self._counting:
            for row, found, short in zip(bare, tokenized, cut, strict=True):
                if short:
                    row.owner.truncated.append(row.index)
                row.tokenized = found
                if row.owner.adapter.input_mode == "words":
                    row.owner.rows[row.index] = found
                row.cost = len(found)
                row.owner.tokens += len(found)
                row.owner.tokenize_s += spent_s
        return list(rows)

    def _compute_forever(self) -> None:
        if self._one_thread:
            torch.set_num_threads(1)  # of this thread alone
        while self._ready.wait():
            with self._device:
                # Another thread may have been quicker: then there is nothing to take, and nothing to do.
                if self._one_thread:
                    rows = next_pass(self._ready, self._cost, most=self._budget, takers=self._worker_threads)
                else:
                    rows = self._ready.take(self._budget, takers=self._worker_threads)
                self._waiting.leave(rows)
                with self._counting:
                    self._running += 1
                try:
                    if present := self._tokenize(rows):
                        self._compute(present)
                except BaseException as error:  # the last resort: a dead thread would leave every later row waiting
                    log.exception("engine.thread_failed", rows=len(rows))
                    self._fail([row for row in rows if row.owner.left], error)
                with self._counting:
                    self._running -= 1

    def _compute(self, rows: Sequence[QueuedInput]) -> None:
        began_at = time.perf_counter()
        for row in rows:
            if not row.owner.started_at:
                row.owner.started_at = began_at
        failure: BaseException | None = None
        try:
            adapters = self.hot_adapter_merge.substitute(
                [row.owner.adapter for row in rows], [row.cost for row in rows]
            )
            outputs = self._answer(self.backbone, [row.tokenized for row in rows], adapters)
            if len(outputs) != len(rows):
                raise PassFailed()
            outputs = gather(rows, outputs, self._counting)
        except BaseException as error:
            # Not the renderer's own traceback: it prints the frames' tensors.
            log.error("engine.pass_failed", rows=len(rows), error=repr(error), trace=traceback.format_exc(limit=-4))
            failure = error.with_traceback(None)
            failure.__context__ = None
        if failure is not None:  # out here nothing holds what the pass had in memory
            self._isolate(rows, failure)
            return
        ended_at = time.perf_counter()
        spent_s = ended_at - began_at
        tokens = sum(row.cost for row in rows) or 1
        done: list[Request] = []
        with self._counting:
            inputs = sum(row.counted for row in rows)
            self._cost.observe(tokens, inputs, spent_s)
            self.passes += 1
            self.rows += inputs
            self.tokens += tokens
            for row, output in zip(rows, outputs, strict=True):
                owner = row.owner
                if owner.receive(row, output, spent_s * row.cost / tokens):
                    owner.finished_at = ended_at
                    self.queue_wait_s.observe(owner.queue_s)
                    done.append(owner)
        settle(done)

    def _isolate(self, rows: Sequence[QueuedInput], error: BaseException) -> None:
        """Run a pass that failed again, request by request, so that only a request that fails alone is failed."""
        if isinstance(error, torch.OutOfMemoryError):
            self._halve(rows)
            return
        owners = list({id(row.owner): row.owner for row in rows}.values())
        if len(owners) == 1:
            self._fail(rows, error)
            return
        for owner in owners:
            self._compute([row for row in rows if row.owner is owner])

    def _halve(self, rows: Sequence[QueuedInput]) -> None:
        """Run two smaller passes: another process on the GPU has taken the memory that such a pass had before."""
        if len(rows) == 1:
            self._fail(rows, DeviceMemoryFull(what="one of the inputs"))
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            if present := [row for row in part if row.owner.error is None]:
                self._compute(present)

    def _fail(self, rows: Iterable[QueuedInput], error: BaseException) -> None:
        # Neither a future nor the event loop can pass on a StopIteration or what ends a process.
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            error = PassFailed()
        owners = {id(row.owner): row.owner for row in rows if row.owner.error is None}
        for owner in owners.values():
            owner.error = error
            self._withdraw(owner)
        settle(owners.values())
