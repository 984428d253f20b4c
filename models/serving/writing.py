"""The interface between the predictor and runners whose answers are written token by token. No tensors.

`write` answers at once with a `Writing`: its pieces come as they are written, of all choices in turn. Whoever stops
listening closes it; what was computed until then is counted, unless a fault of the server's has ended it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from models.datasets.examples import Input
from models.serving.runner import Answered, Runner, ServedAdapter
from models.serving.usage import Work

Message = Mapping[str, Any]
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen and where an answer ends, in OpenAI's words."""

    max_tokens: int | None = None  # None: as many as the operator allows
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: int | None = None  # how many of the best tokens beside the chosen one; None: no probabilities at all


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What is to be answered: a conversation, or a text to be continued, `choices` times."""

    prompt: Sequence[Message] | str
    params: SamplingParams = field(default_factory=SamplingParams)
    choices: int = 1
    schema: Mapping[str, Any] | None = None  # the answer is JSON that fits
    tools: Sequence[Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token as text and bytes with its log probability, and the best ones in its place."""

    text: str
    data: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What came to one choice: text, its tokens' probabilities if asked for, and at its end the reason."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None


class Writing(Protocol):
    """An answer that is being written."""

    @property
    def prompt_tokens(self) -> int:
        """Number of the prompt's tokens."""

    @property
    def read_tokens(self) -> int:
        """How many of them were read so far, cached ones included."""

    @property
    def cached_tokens(self) -> int:
        """How many of them did not have to be computed."""

    @property
    def completion_tokens(self) -> int:
        """Number of tokens that were written so far, in all choices."""

    @property
    def compute_s(self) -> float:
        """Its share of the engine's time so far."""

    @property
    def failed(self) -> bool:
        """Whether a fault of the server's has ended it."""

    async def next(self) -> Piece | None:
        """Return the next piece, None behind the last one. Raises what the engine failed with."""

    def close(self) -> None:
        """Stop writing: the next step goes without it. Safe at any time, and twice."""


AdapterT = TypeVar("AdapterT", bound=ServedAdapter)


class WritingRunner(Runner[AdapterT], Protocol[AdapterT]):
    """A runner that writes."""

    async def submit(
        self,
        customer_id: str,
        adapter: AdapterT,
        inputs: Sequence[Input],
        count: Callable[[Work], None] | None = None,
    ) -> Answered:
        """Write an answer to each input; raises what `write` raises.

        `count` is called once with what was computed, however it ends, if it is not by the server's fault.
        """

    def plain_adapter(self) -> AdapterT:
        """Return the base as it is, for whoever asks for it by its own name."""

    async def write(self, customer_id: str, adapter: AdapterT, request: WriteRequest) -> Writing:
        """Begin to answer.

        Raises InvalidInput, ContextLengthExceeded, QueueFull, ShuttingDown.
        """
