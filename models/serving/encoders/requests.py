"""What waits in an engine: requests of one customer each, and their rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Input, Media, TextPair
from models.serving.adapters.adapter import Adapter

Floats = NDArray[np.float32]
NOTHING: Floats = np.empty(0, dtype=np.float32)  # stands for an output that is not there yet

# A request up to these is tokenised by the lane that computes it: one thread less to wake on the way. Not what takes
# longer, as everybody in the pass waits for it: 8,000 characters took 2 ms, word by word 4; 100,000 took 31 and 52.
QUICK_ROWS = 16
QUICK_CHARS = 8_000


@dataclass(slots=True, eq=False)
class Request:
    """Inputs of one customer for one adapter. Its rows may leave in several batches; the answers keep their order."""

    customer_id: str
    adapter: Adapter
    answered: asyncio.Future[None]
    inputs: Sequence[Input]
    outputs: list[Floats]  # per row: probabilities over the adapter's labels, a value, (W, K) of words, an embedding
    left: int  # rows without an answer
    rows: dict[int, Any] = field(default_factory=dict)  # what the base made of the inputs, where decoding needs it
    tokens: int = 0
    error: BaseException | None = None
    # perf_counter seconds
    submitted_at: float = field(default_factory=time.perf_counter)
    started_at: float = 0.0  # its first row left the queue
    finished_at: float = 0.0
    tokenize_s: float = 0.0
    compute_s: float = 0.0  # its share of the passes that it took part in, by tokens

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.answered.cancelled()

    def timings_ms(self) -> dict[str, float]:
        """Where the time went: `queue` is what is neither tokenising nor the passes that its rows were in."""
        total_s = self.finished_at - self.submitted_at
        running_s = self.finished_at - self.started_at
        return {
            "queue": max(0.0, total_s - running_s - self.tokenize_s) * 1e3,
            "tokenize": self.tokenize_s * 1e3,
            "compute": running_s * 1e3,
            "total": total_s * 1e3,
        }


@dataclass(slots=True, eq=False)
class Row:
    """One input on its way. `cost` is an estimate in tokens until it is tokenised."""

    owner: Request
    index: int
    input: Input
    cost: int
    ids: Any = None  # what the base made of it, see `backbones.backbone.Row`


def rows_of(request: Request, inputs: Sequence[Input], *, most: int | None = None) -> list[Row]:
    """The rows of a request, their cost guessed from their size: a token is about four characters.

    `most` is how many tokens of a text are read where they wait; None if all of it is, to tokenise it.
    """
    return [Row(request, index, item, _guess(item, most)) for index, item in enumerate(inputs)]


def is_quick(inputs: Sequence[Input]) -> bool:
    """Whether reading them takes next to nothing, and their size tells what they cost.

    That of a picture or a sound does not: what it costs is known when the base has looked at it.
    """
    if len(inputs) > QUICK_ROWS or any(isinstance(item, Media) for item in inputs):
        return False
    return sum(map(_size, inputs)) <= QUICK_CHARS


def _guess(item: Input, most: int | None) -> int:
    if isinstance(item, TextPair):
        return _guess(item.first, most) + _guess(item.second, most)
    tokens = 2 + _size(item) // 4
    return tokens if most is None else min(tokens, most)


def _size(item: Input) -> int:
    if isinstance(item, TextPair):
        return len(item.first) + len(item.second)
    return len(item) if isinstance(item, str) else 64
