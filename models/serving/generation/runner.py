"""The runner of models that write: one base, and every customer's prompt, low-rank matrices or blocks beside it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from models.artifacts.folder import Artifact
from models.backbones.registry import BackboneEntry
from models.backbones.writing import DecoderBackbone, load_decoder
from models.datasets.examples import Input
from models.datasets.limits import Limits
from models.services.catalog import ResolvedVersion
from models.serving.conversations import Written, longest_answer, prompt_tokens, read_conversation, write_each
from models.serving.generation.adapters import WritingAdapter
from models.serving.generation.assembly import assemble
from models.serving.generation.blocks import BLOCK_TOKENS, BlockPool, root_digest
from models.serving.generation.constraints import Constraint, ConstraintCompiler
from models.serving.generation.engine import Engine, EngineLimits
from models.serving.generation.memory import KeyValueMemory, block_bytes
from models.serving.generation.passes import Writer
from models.serving.generation.preparation import Preparation
from models.serving.generation.requests import Choice, OpenWriting
from models.serving.generation.sampling import Sampler
from models.serving.generation.scheduler import Sequence as TokenSequence
from models.serving.generation.token_bytes import TextStream, TokenBytes
from models.serving.pass_counts import PassCounts
from models.serving.shared_compute import SharedCompute
from models.serving.usage import Work
from models.serving.writing import WriteRequest
from models.settings import Settings

log = structlog.get_logger(__name__)


class GenerationRunner:
    """Implements `models.serving.writing.WritingRunner` by an engine."""

    base_adapter = None  # a base that writes gives no embeddings

    def __init__(self, backbone: DecoderBackbone, settings: Settings, shared: SharedCompute | None = None) -> None:
        """Create the runner and start its engine."""
        self.backbone = backbone
        self._settings = settings
        config, device = backbone.config, backbone.device
        count = max(1, settings.generation_memory_bytes // block_bytes(config, backbone.dtype))
        self.most_tokens = min(config.max_tokens, count * BLOCK_TOKENS)
        memory = KeyValueMemory(config, count, device=device, dtype=backbone.dtype)
        self._writer = Writer(backbone, memory)
        described = (backbone.folder / "tokenizer.json").read_text("utf-8")
        self._token_bytes = TokenBytes(described)
        self._compiler = ConstraintCompiler(described, vocabulary=config.vocabulary, ends=config.ends)
        on_cpu = device.type == "cpu"
        limits = EngineLimits(settings.generation_sequences, settings.generation_queue_per_customer)
        self.engine = Engine(
            self._writer.compute,
            BlockPool(count),
            self._token_bytes,
            limits,
            device=shared.processor if on_cpu and shared is not None else None,
            one_thread=on_cpu,
            name=backbone.entry.name,
        )
        self._preparation = Preparation(self.engine.check_room)
        self.engine.start()

    @classmethod
    def open(cls, entry: BackboneEntry, shared: SharedCompute) -> GenerationRunner:
        """Load the base and start its engine; blocks. Raises BaseModelUnreachable and UnsupportedDecoder."""
        settings = shared.settings
        backbone = load_decoder(entry, device=settings.device, precision=settings.precision, threads=settings.threads)
        log.info("engine.started", base_model=entry.name, device=str(backbone.device), precision=str(backbone.dtype))
        return cls(backbone, settings, shared)

    @property
    def waiting_rows(self) -> int:
        """Number of answers that no step has begun."""
        return self.engine.waiting

    @property
    def alive(self) -> bool:
        """Whether the engine's thread runs."""
        return self.engine.alive

    @property
    def busy(self) -> bool:
        """True while a step is computed."""
        return self.engine.busy

    @property
    def counts(self) -> PassCounts:
        """Counts of what it has computed so far; rows are tokens that were written."""
        engine = self.engine
        return PassCounts(
            base_model=self.backbone.entry.name,
            passes=engine.steps,
            rows=engine.written,
            tokens=engine.rows,
            waiting_rows=engine.waiting,
            queue_wait_s=engine.queue_wait_s,
        )

    def assemble(self, artifact: Artifact, version: ResolvedVersion) -> WritingAdapter:
        """Return the version in memory. Raises ArtifactBroken and DeviceMemoryFull."""
        return assemble(artifact, version, self.backbone, self._writer.linears)

    def plain_adapter(self) -> WritingAdapter:
        """Return the base as it is, for whoever asks for it by its own name."""
        return WritingAdapter(task="text-generation", key=self.backbone.revision)

    def read(self, adapter: WritingAdapter, value: Any, param: str, limits: Limits) -> Input:  # noqa: ARG002
        """Return a user's message or a conversation; raises InvalidInput."""
        return read_conversation(value, param, limits)

    async def submit(
        self,
        customer_id: str,
        adapter: WritingAdapter,
        inputs: Sequence[Input],
        count: Callable[[Work], None] | None = None,
    ) -> Written:
        """Write an answer to each input, greedily. Raises what `write` raises; leaves with its caller."""
        write = functools.partial(self.write, customer_id, adapter)
        return await write_each(write, inputs, self._settings, count)

    async def write(self, customer_id: str, adapter: WritingAdapter, request: WriteRequest) -> OpenWriting:
        """Begin to answer. Raises InvalidInput, ContextLengthExceeded, QueueFull, ShuttingDown."""
        prepare = functools.partial(self._prepare, adapter, request)
        tokens, constraints = await self._preparation.run(customer_id, request.choices, prepare)
        most = longest_answer(
            request, prompt=len(tokens), context=self.most_tokens, default=self._settings.generation_max_tokens
        )
        loop = asyncio.get_running_loop()
        writing = OpenWriting(customer_id, loop, prompt_tokens=len(tokens), left=request.choices)
        choices = []
        for index in range(request.choices):
            sequence = TokenSequence(customer_id, list(tokens), len(tokens), root_digest(customer_id, adapter.key))
            sequence.owner = Choice(
                owner=writing,
                index=index,
                adapter=adapter,
                sequence=sequence,
                sampler=Sampler(request.params, choice=index),
                stream=TextStream(self._token_bytes, request.params.stop),
                most=most,
                ends=frozenset(self.backbone.config.ends),
                constraint=constraints[index] if constraints else None,
            )
            choices.append(sequence.owner)
        self.engine.submit(choices)
        return writing

    def forget_customer(self, customer_id: str) -> None:
        """Drop the customer's prefixes."""
        self.engine.forget_customer(customer_id)

    def forget_version(self, customer_id: str, manifest_sha256: str) -> None:  # noqa: ARG002
        """Drop the customer's prefixes: they do not say of which version they are."""
        self.engine.forget_customer(customer_id)

    async def close(self) -> None:
        """Finish what is being written, then stop."""
        self._preparation.close()
        await self.engine.close()

    def _prepare(self, adapter: WritingAdapter, request: WriteRequest) -> tuple[list[int], list[Constraint]]:
        """Return the prompt's tokens and the choices' constraints; blocks."""
        of_customer = bool(adapter.customer_id)
        tokens = prompt_tokens(self.backbone.tokenizer, adapter.prompt, request, of_customer=of_customer)
        if request.schema is None:
            return tokens, []
        first = self._compiler.compile(request.schema)
        return tokens, [first, *(first.copy() for _ in range(request.choices - 1))]
