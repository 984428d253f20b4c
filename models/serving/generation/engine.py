"""One engine per base model that writes: step after step, one token for every sequence that is under way.

One thread computes. It takes a place on the processor for each step and gives it up in between: encoders' passes and
steps go in turn. Who joins does so between steps, who has left is gone in the next one. Whatever fails inside a step
ends the answers that it was for, and never the thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import structlog
import torch

from models.errors import InvalidRequest
from models.serving.errors import DeviceMemoryFull, PassFailed, QueueFull, ShuttingDown
from models.serving.generation.blocks import BlockPool
from models.serving.generation.pace import StepPace
from models.serving.generation.passes import Floats, Stretch
from models.serving.generation.requests import Choice, OpenWriting, deliver
from models.serving.generation.scheduler import Scheduler, Slice
from models.serving.generation.token_bytes import TokenBytes
from models.serving.pass_counts import WAIT_BOUNDS_S, Distribution
from models.serving.writing import Piece

log = structlog.get_logger(__name__)

Compute = Callable[[Sequence[Stretch]], list[Floats | None]]
_Delivery = tuple[OpenWriting, Piece | BaseException | None]


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Limits on what an engine may use."""

    sequences: int  # under way at a time
    queue_per_customer: int  # answers that are not finished


class Engine:
    """Writes the answers of all customers of one base. `start` before use, `close` after."""

    def __init__(
        self,
        compute: Compute,
        pool: BlockPool,
        token_bytes: TokenBytes,
        limits: EngineLimits,
        *,
        device: threading.Semaphore | None = None,
        one_thread: bool = True,
        name: str = "",
    ) -> None:
        """Create an engine over a pass and the blocks that it reads and writes."""
        self._compute = compute
        self._token_bytes = token_bytes
        self._limits = limits
        self._device = device or threading.Semaphore(1)
        self._one_thread = one_thread
        self._name = name
        self._pace = StepPace()
        self.scheduler = Scheduler(pool, most=limits.sequences)  # the thread's alone
        self._changed = threading.Condition(threading.Lock())
        self._joining: list[Choice] = []
        self._forgotten: list[str] = []
        self._unfinished: Counter[str] = Counter()
        self._choices: set[Choice] = set()  # the thread's alone
        self._closed = False
        self._thread: threading.Thread | None = None
        self._computing = False
        self._submitted_at: dict[int, float] = {}
        self.steps = self.rows = self.written = self.reused = 0
        self.queue_wait_s = Distribution(WAIT_BOUNDS_S)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=f"write-{self._name}", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish what is being written, then stop."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def check_room(self, customer_id: str, answers: int, *, preparing: int) -> None:
        """Raise QueueFull if a customer may not have so many answers beside those that are being prepared.

        Raises ShuttingDown.
        """
        with self._changed:
            self._refuse_beyond_limit(customer_id, answers, preparing=preparing)

    def submit(self, choices: Sequence[Choice]) -> None:
        """Begin to write the choices of one request. Raises QueueFull and ShuttingDown."""
        customer = choices[0].owner.customer_id
        with self._changed:
            self._refuse_beyond_limit(customer, len(choices))
            self._unfinished[customer] += len(choices)
            self._joining.extend(choices)
            now = time.perf_counter()
            self._submitted_at.update((id(choice), now) for choice in choices)
            self._changed.notify_all()

    def forget_customer(self, customer_id: str) -> None:
        """Drop the prefixes that are kept of a customer: between steps, or at once where there are none."""
        with self._changed:
            self._forgotten.append(customer_id)
            self._changed.notify_all()

    @property
    def unfinished(self) -> int:
        """Number of answers that wait or are being written."""
        return self._unfinished.total()

    @property
    def waiting(self) -> int:
        """Number of answers that no step has begun."""
        return len(self._joining) + self.scheduler.waiting

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def busy(self) -> bool:
        """True while a step is computed."""
        return self._computing

    def _refuse_beyond_limit(self, customer_id: str, answers: int, *, preparing: int = 0) -> None:
        if self._closed:
            raise ShuttingDown()
        waiting, limit = self._unfinished[customer_id] + preparing, self._limits.queue_per_customer
        if waiting and waiting + answers > limit:
            seconds = max(1, round(waiting / self._limits.sequences * max(self._pace.step_s, 0.01) * 100))
            raise QueueFull(waiting=waiting, limit=limit, rows=answers, seconds=seconds, retry_after_s=seconds)

    def _run(self) -> None:
        if self._one_thread:
            torch.set_num_threads(1)  # of this thread alone
        while self._gather():
            slices: list[Slice] = []
            try:
                with self._device:
                    self._computing = True
                    slices = self.scheduler.plan(self._pace.prefill(self._writing()))
                    self._step(slices)
            except BaseException as error:  # the last resort: a dead thread would leave every answer unfinished
                log.exception("generation.step_failed", slices=len(slices))
                self._fail({piece.sequence.owner for piece in slices} or set(self._choices), error)
            finally:
                self._computing = False

    def _gather(self) -> bool:
        """Take in who joins, drop who left or is forgotten; blocks while there is nothing to do. False at the end."""
        with self._changed:
            while not (self._joining or self._choices or self._forgotten):
                if self._closed:
                    return False
                self._changed.wait()
            joining, self._joining = self._joining, []
            forgotten, self._forgotten = self._forgotten, []
        for customer_id in forgotten:
            self.scheduler.pool.forget_customer(customer_id)
        for choice in joining:
            self._choices.add(choice)
            self.scheduler.add(choice.sequence)
        for choice in [choice for choice in self._choices if choice.owner.gone]:
            self._leave(choice)
        return True

    def _writing(self) -> int:
        return sum(sequence.decoding for sequence in self.scheduler.running)

    def _step(self, slices: Sequence[Slice]) -> None:
        if not slices:
            time.sleep(0.001)  # everything waits for blocks, which whoever leaves frees
            return
        began_at = time.perf_counter()
        for piece in slices:
            if (submitted_at := self._submitted_at.pop(id(piece.sequence.owner), None)) is not None:
                self.queue_wait_s.observe(began_at - submitted_at)
                self._note_reuse(piece.sequence.owner)
        scores = self._scores(slices)
        computed = [piece for piece in slices if not piece.sequence.owner.finished]
        self.scheduler.advance(computed)
        spent_s = time.perf_counter() - began_at
        rows = sum(piece.rows for piece in slices)
        self.steps += 1
        self.rows += rows
        delivered: list[_Delivery] = []
        prompts = 0
        for piece in computed:
            choice: Choice = piece.sequence.owner
            choice.owner.compute_s += spent_s * piece.rows / rows
            choice.owner.read_tokens = max(choice.owner.read_tokens, min(piece.stop, piece.sequence.prompt))
            prompts += piece.rows if piece.rows > 1 else 0
            if piece.ends:
                delivered += self._continue(choice, scores[id(choice)])
        self._pace.observe(
            writing=len(slices) - sum(piece.rows > 1 for piece in slices), prompts=prompts, seconds=spent_s
        )
        deliver(delivered)

    def _continue(self, choice: Choice, scores_V: Floats | None) -> list[_Delivery]:
        """Choose the next token of a choice; return what its listener gets."""
        try:
            if scores_V is None:
                raise PassFailed()
            allowed = None if choice.constraint is None else choice.constraint.allowed()
            piece = choice.take(choice.sampler.choose(scores_V, allowed), self._token_bytes)
        except InvalidRequest as error:  # a schema that is given up on
            self._fail([choice], error)
            return []
        except Exception as error:
            log.error("generation.choice_failed", error=repr(error), trace=traceback.format_exc(limit=-3))
            self._fail([choice], error)
            return []
        self.written += 1
        found: list[_Delivery] = [(choice.owner, piece)] if piece is not None else []
        if choice.finished:
            self._leave(choice)
            if not choice.owner.left:
                found.append((choice.owner, None))
        return found

    def _note_reuse(self, choice: Choice) -> None:
        # Of the first choice: the others of a request share its prompt anyway.
        if choice.index == 0:
            choice.owner.cached_tokens = choice.sequence.reused
            self.reused += choice.sequence.reused

    def _scores(self, slices: Sequence[Slice]) -> dict[int, Floats | None]:
        """Return the scores of the next token by the choice's id. What fails alone is failed, the rest goes on."""
        failure: BaseException | None = None
        try:
            found = self._compute([_stretch(piece) for piece in slices])
            return {id(piece.sequence.owner): scores for piece, scores in zip(slices, found, strict=True)}
        except BaseException as error:
            # Not the renderer's own traceback: it prints the frames' tensors.
            log.error(
                "generation.pass_failed", slices=len(slices), error=repr(error), trace=traceback.format_exc(limit=-4)
            )
            failure = error.with_traceback(None)
            failure.__context__ = None
        if len(slices) == 1:  # out here nothing holds what the pass had in memory
            full = isinstance(failure, torch.OutOfMemoryError)
            self._fail([slices[0].sequence.owner], DeviceMemoryFull(what="one of the answers") if full else failure)
            return {}
        half = len(slices) // 2
        return self._scores(slices[:half]) | self._scores(slices[half:])

    def _fail(self, choices: Iterable[Choice], error: BaseException) -> None:
        # Neither a future nor the event loop can pass on a StopIteration or what ends a process.
        if isinstance(error, StopIteration) or not isinstance(error, Exception):
            error = PassFailed()
        owners = {id(choice.owner): choice.owner for choice in choices}
        for choice in [choice for choice in self._choices if id(choice.owner) in owners]:
            self._leave(choice)
        deliver([(owner, error) for owner in owners.values()])

    def _leave(self, choice: Choice) -> None:
        choice.finished = True
        choice.owner.left -= 1
        self._choices.discard(choice)
        self._submitted_at.pop(id(choice), None)
        self.scheduler.remove(choice.sequence)
        with self._changed:
            self._unfinished[choice.owner.customer_id] -= 1
            if self._unfinished[choice.owner.customer_id] <= 0:
                del self._unfinished[choice.owner.customer_id]


def _stretch(piece: Slice) -> Stretch:
    sequence = piece.sequence
    return Stretch(
        sequence.owner.adapter, sequence.tokens[piece.start : piece.stop], piece.start, sequence.blocks, piece.ends
    )
