"""One engine per base model: rows of everybody in, outputs out, one pass at a time.

Threads beside the event loop: one tokenises what arrived, the lanes compute what is tokenised. A lane takes a batch as
soon as it has finished the one before: a batch leaves when a lane is idle and never waits for company, company gathers
while they are busy. All take from fair queues, so a large request is cut into slices by itself.

On a processor there is a lane per compute thread, and each pass runs on one thread: threads that share a product meet
at a barrier in every layer and are as slow as the slowest of them (see `backbones.parallel`).
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence

import structlog
import torch

from models.backbones.backbone import Backbone
from models.datasets.examples import Input
from models.serving.adapters.adapter import Adapter, embedding_adapter
from models.serving.encoders.hot_adapter_merge import HotAdapterMerge
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.pass_cost import PassCost, next_pass
from models.serving.encoders.passes import answer
from models.serving.encoders.requests import NOTHING, Request, Row, is_quick, rows_of
from models.serving.errors import DeviceMemoryFull, QueueFull, ShuttingDown
from models.serving.fair_queue import FairQueue

log = structlog.get_logger(__name__)

# Where a pass can be cheap, too, it gains little beyond this many tokens. Measured with short bf16 texts on one core:
# 1,430 texts/s at 240 tokens a pass (11 ms), 1,480 at 480, 1,700 at 3,800 (150 ms).
CPU_PASS_TOKENS = 320
TOKENIZE_COST = 4_096
# Turns of deficit round-robin: a short text, and of a customer who had nothing waiting a handful.
QUANTUM = 16
FIRST_TURN = 64


class Engine:
    """Answers rows on one base model. `submit` belongs to one event loop; `start` before, `close` after."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        batch_tokens: int,
        queue_per_customer: int,
        lanes: int = 1,
        device: threading.Semaphore | None = None,
        merged_bytes: int = 0,
    ) -> None:
        """`lanes` is how many passes run at a time; `device` limits them across the engines that share a device.

        `merged_bytes` is what a dominant adapter's own blocks may take.
        """
        self.backbone = backbone
        self.dominance = HotAdapterMerge(backbone, limit_bytes=merged_bytes)
        self.embedding = embedding_adapter(backbone.blocks)
        on_cpu = backbone.device.type == "cpu"
        self._budget = min(batch_tokens, CPU_PASS_TOKENS) if on_cpu else batch_tokens
        self._one_thread = on_cpu
        self._lanes = lanes
        self._device = device or threading.Semaphore(lanes)
        self._limit = queue_per_customer
        self._raw: FairQueue[Row] = FairQueue(quantum=QUANTUM, first=FIRST_TURN)
        self._ready: FairQueue[Row] = FairQueue(quantum=QUANTUM, first=FIRST_TURN)
        self._waiting: Counter[str] = Counter()  # rows that no pass has taken yet, by customer
        self._waiting_lock = threading.Lock()
        self._cost = PassCost()
        self._threads: list[threading.Thread] = []
        self._closed = False
        # Lanes write these.
        self._counting = threading.Lock()
        self._running = 0
        self.passes = 0
        self.rows = 0

    def start(self) -> None:
        """Start the threads."""
        name = self.backbone.entry.name
        self._threads = [
            threading.Thread(target=self._tokenize_forever, name=f"tokenize-{name}", daemon=True),
            *(
                threading.Thread(target=self._compute_forever, name=f"compute-{name}-{lane}", daemon=True)
                for lane in range(self._lanes)
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
        self._admit(customer_id, len(inputs))
        request = Request(
            customer_id=customer_id,
            adapter=adapter,
            inputs=inputs,
            answered=asyncio.get_running_loop().create_future(),
            outputs=[NOTHING] * len(inputs),
            left=len(inputs),
        )
        if is_quick(inputs):
            self._ready.put(customer_id, rows_of(request, inputs, most=self.backbone.entry.max_tokens))
        else:
            self._raw.put(customer_id, rows_of(request, inputs))
        try:
            await request.answered
        except asyncio.CancelledError:
            self._withdraw(request)
            raise
        return request

    @property
    def waiting_rows(self) -> int:
        """Rows that no pass has taken yet."""
        return len(self._raw) + len(self._ready)

    @property
    def busy(self) -> bool:
        """Whether a pass is running."""
        return self._running > 0

    def waiting_of(self, customer_id: str) -> int:
        """Rows of one customer that no pass has taken yet."""
        with self._waiting_lock:
            return self._waiting[customer_id]

    def _admit(self, customer_id: str, rows: int) -> None:
        with self._waiting_lock:
            waiting = self._waiting[customer_id]
            # A request that is larger than the limit would never fit: it may wait alone.
            if waiting and waiting + rows > self._limit:
                seconds = max(1, round(waiting / (self._lanes * self._cost.rows_per_s)))
                raise QueueFull(waiting=waiting, limit=self._limit, rows=rows, seconds=seconds, retry_after_s=seconds)
            self._waiting[customer_id] = waiting + rows

    def _leave(self, rows: Iterable[Row]) -> None:
        with self._waiting_lock:
            for row in rows:
                customer_id = row.owner.customer_id
                self._waiting[customer_id] -= 1
                if not self._waiting[customer_id]:
                    del self._waiting[customer_id]

    def _withdraw(self, request: Request) -> None:
        for queue in (self._raw, self._ready):
            self._leave(queue.discard(request.customer_id, request))

    def _tokenize_forever(self) -> None:
        while self._raw.wait():
            rows = self._raw.take(TOKENIZE_COST)
            kept = self._tokenize(rows)
            self._leave(row for row in rows if row.ids is None)
            by_customer: dict[str, list[Row]] = {}
            for row in kept:
                by_customer.setdefault(row.owner.customer_id, []).append(row)
            for customer_id, theirs in by_customer.items():
                self._ready.put(customer_id, theirs)
            # Whoever left while its rows were in no queue could not take them along.
            for owner in {id(row.owner): row.owner for row in kept if row.owner.gone}.values():
                self._withdraw(owner)
        self._ready.close()

    def _tokenize(self, rows: Sequence[Row]) -> list[Row]:
        """Give rows their token ids; those that somebody still waits for."""
        rows = [row for row in rows if not row.owner.gone and row.owner.error is None]
        bare = [row for row in rows if row.ids is None]
        if not bare:
            return list(rows)
        began_at = time.perf_counter()
        try:
            token_ids = tokenize(
                self.backbone, [row.input for row in bare], [row.owner.adapter.reading for row in bare]
            )
        except Exception as error:  # whatever it is: these requests fail, the thread goes on
            self._fail(bare, error)
            return [row for row in rows if row.owner.error is None]
        spent_s = (time.perf_counter() - began_at) / len(bare)
        with self._counting:
            for row, ids in zip(bare, token_ids, strict=True):
                row.ids = ids
                if row.owner.adapter.reading == "words":
                    row.owner.rows[row.index] = ids
                row.cost = len(ids)
                row.owner.tokens += len(ids)
                row.owner.tokenize_s += spent_s
        return list(rows)

    def _compute_forever(self) -> None:
        if self._one_thread:
            torch.set_num_threads(1)  # of this thread alone
        while self._ready.wait():
            with self._device:
                # Another lane may have been quicker: then there is nothing to take, and nothing to do.
                if self._one_thread:
                    rows = next_pass(self._ready, self._cost, most=self._budget, lanes=self._lanes)
                else:
                    rows = self._ready.take(self._budget, takers=self._lanes)
                self._leave(rows)
                with self._counting:
                    self._running += 1
                if present := self._tokenize(rows):
                    self._compute(present)
                with self._counting:
                    self._running -= 1

    def _compute(self, rows: Sequence[Row]) -> None:
        began_at = time.perf_counter()
        for row in rows:
            if not row.owner.started_at:
                row.owner.started_at = began_at
        adapters = self.dominance.stand_in([row.owner.adapter for row in rows], [row.cost for row in rows])
        failure: Exception | None = None
        try:
            outputs = answer(self.backbone, [row.ids for row in rows], adapters)
        except Exception as error:
            # Not the renderer's own traceback: it prints the frames' tensors.
            log.error("engine.pass_failed", rows=len(rows), error=repr(error), trace=traceback.format_exc(limit=-4))
            failure = error.with_traceback(None)
            failure.__context__ = None
        if failure is not None:  # out here nothing holds what the pass had in memory
            self._isolate(rows, failure)
            return
        ended_at = time.perf_counter()
        spent_s = ended_at - began_at
        tokens = sum(row.cost for row in rows)
        done: list[Request] = []
        with self._counting:
            self.passes += 1
            self.rows += len(rows)
            self._cost.observe(tokens, len(rows), spent_s)
            for row, output in zip(rows, outputs, strict=True):
                owner = row.owner
                owner.outputs[row.index] = output
                owner.compute_s += spent_s * row.cost / tokens
                owner.left -= 1
                if not owner.left:
                    owner.finished_at = ended_at
                    done.append(owner)
        _settle(done)

    def _isolate(self, rows: Sequence[Row], error: Exception) -> None:
        """A pass failed: run it again customer by customer, so that only whose rows fail alone are failed."""
        if isinstance(error, torch.OutOfMemoryError):
            self._halve(rows)
            return
        owners = list({id(row.owner): row.owner for row in rows}.values())
        if len(owners) == 1:
            self._fail(rows, error)
            return
        for owner in owners:
            self._compute([row for row in rows if row.owner is owner])

    def _halve(self, rows: Sequence[Row]) -> None:
        """Whoever shares the GPU has taken the memory that such a pass had before: two smaller ones."""
        if len(rows) == 1:
            self._fail(rows, DeviceMemoryFull(what="one of the inputs"))
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            if present := [row for row in part if row.owner.error is None]:
                self._compute(present)

    def _fail(self, rows: Iterable[Row], error: Exception) -> None:
        owners = {id(row.owner): row.owner for row in rows if row.owner.error is None}
        for owner in owners.values():
            owner.error = error
            self._withdraw(owner)
        _settle(owners.values())


def _settle(requests: Iterable[Request]) -> None:
    """Wake the callers up, once per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in requests:
        by_loop.setdefault(request.answered.get_loop(), []).append(request)
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, settled)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.warning("engine.nobody_waits", requests=len(settled))


def _wake(requests: Iterable[Request]) -> None:
    for request in requests:
        if request.answered.done():
            continue
        if request.error is not None:
            request.answered.set_exception(request.error)
        else:
            request.answered.set_result(None)
