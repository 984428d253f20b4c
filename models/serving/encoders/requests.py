"""Requests of one customer each, and their inputs as they wait in an engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from models.datasets.examples import Input, Media, TextPair
from models.serving.adapters.adapter import Adapter
from models.serving.encoders.long_input import LongInput

log = structlog.get_logger(__name__)

Floats = NDArray[np.float32]
NOTHING: Floats = np.empty(0, dtype=np.float32)  # in place of an output that is not there yet

# A request up to these is tokenised by the worker thread that computes it: one thread less to wake on the way. Not what
# takes longer, as all rows of the pass wait for it: 8,000 characters took 2 ms, word by word 4; 100,000 took 31 and 52.
QUICK_ROWS = 16
QUICK_CHARS = 8_000


@dataclass(slots=True, eq=False)
class Request:
    """Inputs of one customer for one adapter. They may leave in several batches; the outputs keep their order."""

    customer_id: str
    adapter: Adapter
    answered: asyncio.Future[None]
    inputs: Sequence[Input]
    outputs: list[Floats]  # per input: probabilities over the adapter's labels, a value, (W, K) of words, an embedding
    left: int  # inputs without an output
    rows: dict[int, Any] = field(default_factory=dict)  # what the base made of the inputs, where decoding needs it
    tokens: int = 0
    truncated: list[int] = field(default_factory=list)  # inputs that are not read to their end
    error: BaseException | None = None
    # perf_counter seconds
    submitted_at: float = field(default_factory=time.perf_counter)
    started_at: float = 0.0  # its first input left the queue
    finished_at: float = 0.0
    tokenize_s: float = 0.0
    compute_s: float = 0.0  # its share of the passes that it took part in, by tokens

    @property
    def gone(self) -> bool:
        """True if no caller waits for the answer any more."""
        return self.answered.cancelled()

    @property
    def values(self) -> int:
        """Number of values in the outputs."""
        return sum(output.size for output in self.outputs)

    @property
    def queue_s(self) -> float:
        """Seconds for which it waited: neither tokenised nor in a pass that had its inputs."""
        return max(0.0, self.started_at - self.submitted_at - self.tokenize_s)

    def receive(self, row: QueuedInput, output: Floats | None, seconds: float) -> bool:
        """Take the output of a row, None for a piece that completes no input; return whether it was the last one.

        A pass that failed is run again: what was received before is not counted twice.
        """
        self.compute_s += seconds
        if output is None or (row.long is not None and self.outputs[row.index] is not NOTHING):
            return False
        self.outputs[row.index] = output
        self.left -= 1
        return not self.left

    def timings_ms(self) -> dict[str, float]:
        """Return where the time went."""
        return {
            "queue": self.queue_s * 1e3,
            "tokenize": self.tokenize_s * 1e3,
            "compute": (self.finished_at - self.started_at) * 1e3,
            "total": (self.finished_at - self.submitted_at) * 1e3,
        }


@dataclass(slots=True, eq=False)
class QueuedInput:
    """One input that waits. `cost` is an estimate in tokens until it is tokenised."""

    owner: Request
    index: int
    input: Input
    cost: int
    tokenized: Any = None  # what the base made of it: a `backbones.backbone.TokenizedInput`
    long: LongInput | None = None  # of which `tokenized` is a piece
    counted: bool = True  # as one that waits: of several pieces the first


def queued_inputs(request: Request, *, most: int | None = None) -> list[QueuedInput]:
    """Return the inputs of a request, their cost guessed from their size: a token is about four characters.

    `most` is how many tokens of a text are read where they wait; None if all of it is, to tokenise it.
    """
    return [QueuedInput(request, index, item, _guess(item, most)) for index, item in enumerate(request.inputs)]


def is_quick(inputs: Sequence[Input], *, longest: int = QUICK_CHARS) -> bool:
    """Return whether tokenising inputs takes next to nothing, and their cost follows from their size.

    The cost of a picture or a sound does not: it is known when the base has read its header. Texts of more than
    `longest` characters are tokenised before they leave, to see whether they leave in pieces.
    """
    if len(inputs) > QUICK_ROWS or any(isinstance(item, Media) for item in inputs):
        return False
    sizes = [_size(item) for item in inputs]
    return sum(sizes) <= QUICK_CHARS and max(sizes, default=0) <= longest


def settle(requests: Iterable[Request]) -> None:
    """Wake the callers of requests that are answered or failed, once per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Request]] = {}
    for request in requests:
        by_loop.setdefault(request.answered.get_loop(), []).append(request)
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_wake, settled)
        except RuntimeError:  # the loop is closed: no caller waits any more
            log.warning("engine.nobody_waits", requests=len(settled))


def _wake(requests: Iterable[Request]) -> None:
    for request in requests:
        if request.answered.done():
            continue
        if request.error is not None:
            request.answered.set_exception(request.error)
        else:
            request.answered.set_result(None)


def _guess(item: Input, most: int | None) -> int:
    if isinstance(item, TextPair):
        return _guess(item.first, most) + _guess(item.second, most)
    tokens = 2 + _size(item) // 4
    return tokens if most is None else min(tokens, most)


def _size(item: Input) -> int:
    if isinstance(item, TextPair):
        return len(item.first) + len(item.second)
    return len(item) if isinstance(item, str) else 64
