"""Answers that the upstream server writes: its events, as pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import structlog

from models.errors import GraftError
from models.serving.errors import GenerationInterrupted, InvalidInput
from models.serving.generation.constraints import WHITESPACE
from models.serving.generation.token_bytes import TokenBytes
from models.serving.piece_queue import PieceQueue
from models.serving.writing import FinishReason, Piece, SamplingParams, TokenLogprob, WriteRequest

log = structlog.get_logger(__name__)

_TOKEN_PREFIX = "token_id:"  # noqa: S105 - how vLLM spells a token by its number
_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "repetition": "stop"}


def completion_body(
    request: WriteRequest, *, model: str, tokens: Sequence[int], most: int, ends: Sequence[int], salt: str
) -> dict[str, Any]:
    """Return the body of a completion of vLLM's: tokens in, because Graft lays out the prompt, and tokens back.

    `salt` keeps the cached prefixes of customers and versions apart.
    """
    params = request.params
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(tokens),
        "max_tokens": most,
        "temperature": params.temperature,
        # vLLM takes no 0; the most probable token alone is what that means here.
        "top_p": params.top_p or 1e-9,
        "n": request.choices,
        "seed": params.seed,
        "stop": list(params.stop),
        "stop_token_ids": list(ends),
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "logprobs": params.logprobs,
        "cache_salt": salt,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "return_tokens_as_token_ids": params.logprobs is not None,
    }
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias.items()}
    if request.schema is not None:
        # As Graft's own engine writes JSON, where llguidance makes the grammar there, too; other makers read past it.
        schema = {"name": "answer", "schema": {**request.schema, "x-guidance": dict(WHITESPACE)}}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return {name: value for name, value in body.items() if value is not None}


@dataclass(slots=True, eq=False)
class UpstreamWriting(PieceQueue):
    """Implements `models.serving.writing.Writing` by a stream of server-sent events."""

    prompt_tokens: int
    params: SamplingParams
    token_bytes: TokenBytes
    on_tokens: Callable[[int], None]
    cached_tokens: int = 0
    completion_tokens: int = 0
    compute_s: float = 0.0  # of another machine, which does not say
    _reader: asyncio.Task[None] | None = None

    @property
    def read_tokens(self) -> int:
        """All of the prompt: the server was given it, and says nothing of how far it is."""
        return self.prompt_tokens

    def begin(self, answer: httpx.Response, on_end: Callable[[], None]) -> asyncio.Task[None]:
        """Read the stream from now on, however fast it is listened to; `on_end` is called once it is closed."""
        self._reader = asyncio.create_task(self._read(answer, on_end), name="upstream")
        return self._reader

    def close(self) -> None:
        """Stop writing: the connection is closed, and the server's next step goes without it."""
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self, answer: httpx.Response, on_end: Callable[[], None]) -> None:
        try:
            async for event in _events(answer):
                for piece in self._pieces_of(event):
                    self.put(piece)
            self.put(None)
        except GraftError as error:
            self.put(error)
        except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
            log.error("upstream.interrupted", error=repr(error))
            self.put(GenerationInterrupted(reason=type(error).__name__))
        finally:
            try:
                await answer.aclose()
            finally:
                on_end()

    def _pieces_of(self, event: dict[str, Any]) -> list[Piece]:
        if "error" in event:
            raise _fault(event["error"])
        if (details := (event.get("usage") or {}).get("prompt_tokens_details")) is not None:
            self.cached_tokens = int(details.get("cached_tokens") or 0)
        found = []
        for choice in event["choices"]:
            tokens = len(choice.get("token_ids") or ())
            self.completion_tokens += tokens
            self.on_tokens(tokens)
            reason = choice.get("finish_reason")
            if reason is not None and reason not in _REASONS:
                raise GenerationInterrupted(reason=str(reason)[:40])
            logprobs = self._logprobs(choice.get("logprobs"))
            text = choice.get("text") or ""
            if text or logprobs or reason is not None:
                found.append(Piece(int(choice["index"]), text, logprobs, _REASONS[reason] if reason else None))
        return found

    def _logprobs(self, given: dict[str, Any] | None) -> tuple[TokenLogprob, ...]:
        if given is None or self.params.logprobs is None:
            return ()
        found = []
        for token, logprob, top in zip(
            given["tokens"],
            given["token_logprobs"],
            given["top_logprobs"] or [None] * len(given["tokens"]),
            strict=True,
        ):
            best = sorted((top or {}).items(), key=lambda one: -one[1])[: self.params.logprobs]
            found.append(self._token(token, logprob, tuple(self._token(*other) for other in best)))
        return tuple(found)

    def _token(self, spelt: str, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        data = self.token_bytes[int(spelt.removeprefix(_TOKEN_PREFIX))]
        return TokenLogprob(data.decode(errors="replace"), data, float(logprob), top)


async def _events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Yield the data of the events up to `[DONE]`; a stream that ends before it was broken off."""
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        yield orjson.loads(data)
    raise GenerationInterrupted(reason="the stream has no end")


def _fault(error: Mapping[str, Any]) -> GraftError:
    message = str(error.get("message", ""))[:300]
    log.error("upstream.fault", message=message, code=error.get("code"))
    if error.get("code") == 400:
        return InvalidInput(reason=f"This cannot be written: {message}")
    return GenerationInterrupted(reason="it had an error")
