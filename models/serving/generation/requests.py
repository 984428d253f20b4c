"""Answers that are being written: what a caller listens to, and each of its choices as the engine sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from models.serving.generation.adapters import WritingAdapter
from models.serving.generation.constraints import Constraint
from models.serving.generation.sampling import ChosenToken, Sampler
from models.serving.generation.scheduler import Sequence
from models.serving.generation.token_bytes import TextStream, TokenBytes
from models.serving.piece_queue import PieceQueue
from models.serving.writing import FinishReason, Piece, TokenLogprob

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class OpenWriting(PieceQueue):
    """Implements `models.serving.writing.Writing`. The engine's thread writes the counts."""

    customer_id: str
    loop: asyncio.AbstractEventLoop
    prompt_tokens: int
    left: int  # choices that have not ended
    read_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    compute_s: float = 0.0
    gone: bool = False  # nobody listens any more

    def close(self) -> None:
        """Stop writing: the next step goes without it."""
        self.gone = True


@dataclass(slots=True, eq=False)
class Choice:
    """One answer of a request, token by token."""

    owner: OpenWriting
    index: int
    adapter: WritingAdapter
    sequence: Sequence
    sampler: Sampler
    stream: TextStream
    most: int  # tokens that it may have
    ends: frozenset[int]
    constraint: Constraint | None = None
    written: int = 0
    finished: bool = False
    _logprobs: list[TokenLogprob] = field(default_factory=list)

    def take(self, chosen: ChosenToken, token_bytes: TokenBytes) -> Piece | None:
        """Append a token; return what can be shown of the answer now, None if that is nothing."""
        token = chosen.token
        self.written += 1
        self.owner.completion_tokens += 1
        if token in self.ends:
            return self._finish("stop")
        if self.constraint is not None:
            self.constraint.consume(token)
        self.sequence.tokens.append(token)
        text = self.stream.add(token)
        if self.sampler.params.logprobs is not None:
            self._logprobs.append(describe(chosen, token_bytes))
        if self.stream.stopped:
            return self._finish("stop", text)
        if self.constraint is not None and self.constraint.finished:
            return self._finish("stop", text)
        if self.written >= self.most:
            return self._finish("length", text)
        return self._piece(text) if text else None

    def _finish(self, reason: FinishReason, text: str = "") -> Piece:
        self.finished = True
        return self._piece(text + self.stream.end(), reason)

    def _piece(self, text: str, reason: FinishReason | None = None) -> Piece:
        logprobs, self._logprobs = tuple(self._logprobs), []
        return Piece(self.index, text, logprobs, reason)


def describe(chosen: ChosenToken, token_bytes: TokenBytes) -> TokenLogprob:
    """Return a chosen token as the wire format has it."""
    top = tuple(_described(token, logprob, token_bytes) for token, logprob in chosen.top)
    return _described(chosen.token, chosen.logprob, token_bytes, top)


def _described(token: int, logprob: float, token_bytes: TokenBytes, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    data = token_bytes[token]
    return TokenLogprob(data.decode(errors="replace"), data, logprob, top)


def deliver(pieces: Iterable[tuple[OpenWriting, Piece | BaseException | None]]) -> None:
    """Hand pieces to their listeners, once per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[OpenWriting, Piece | BaseException | None]]] = {}
    for writing, piece in pieces:
        by_loop.setdefault(writing.loop, []).append((writing, piece))
    for loop, theirs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put, theirs)
        except RuntimeError:  # the loop is closed: nobody listens any more
            log.warning("generation.nobody_listens", pieces=len(theirs))


def _put(pieces: list[tuple[OpenWriting, Piece | BaseException | None]]) -> None:
    for writing, piece in pieces:
        writing.put(piece)
