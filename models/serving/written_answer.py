"""An answer that is being written, with whose it is and what it cost: counted once, however it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from models.serving.usage import UsageMeter, Work
from models.serving.writing import Piece, WriteRequest, Writing


@dataclass(frozen=True, slots=True)
class WriteCall:
    """One request of one customer for something that is written."""

    customer_id: str
    model_ref: str  # name, `ft:…`, name@3, name@alias, or a base model that writes
    request: WriteRequest


class WrittenAnswer:
    """What a customer listens to. `close` it, whether it has come to its end or not."""

    def __init__(self, writing: Writing, meter: UsageMeter, *, customer_id: str, model: str, version: str) -> None:
        self.writing = writing
        self.model = model  # the full name
        self.version = version  # `v3`, or the base's revision
        self._meter = meter
        self._customer_id = customer_id
        self._closed = False

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield the pieces as they come. Raises what the engine failed with."""
        while (piece := await self.writing.next()) is not None:
            yield piece

    def close(self) -> None:
        """Stop writing and count what was read and written, unless a fault of the server's has ended it."""
        if self._closed:
            return
        self._closed = True
        self.writing.close()
        tokens = self.writing.read_tokens + self.writing.completion_tokens
        if tokens and not self.writing.failed:
            self._meter.count(self._customer_id, self.model, Work(1, tokens, self.writing.compute_s))
