"""The runner of a base that a vLLM server computes: prompts are laid out here, and written on there."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import safetensors.torch
import structlog

from models.artifacts import peft_adapter
from models.artifacts.errors import CorruptArtifact
from models.artifacts.folder import Artifact
from models.artifacts.parts import BlockWeights, LowRankWeights
from models.artifacts.prompt import Prompt
from models.backbones.chat_template import ChatTokenizer
from models.backbones.registry import BackboneEntry
from models.backbones.writing import fetch, revision_here
from models.datasets.examples import Input
from models.datasets.limits import Limits
from models.services.catalog import ResolvedVersion
from models.serving.conversations import Written, longest_answer, prompt_tokens, read_conversation, write_each
from models.serving.errors import ArtifactBroken, GenerationInterrupted, OwnBlocksNotServed, ShuttingDown
from models.serving.generation.blocks import root_digest
from models.serving.generation.constraints import ConstraintCompiler
from models.serving.generation.preparation import Preparation
from models.serving.generation.token_bytes import TokenBytes
from models.serving.pass_counts import WAIT_BOUNDS_S, Distribution, PassCounts
from models.serving.shared_compute import SharedCompute
from models.serving.upstream.adapters import LoadedAdapters, UpstreamAdapter
from models.serving.upstream.client import NotLoaded, VllmClient, context_length
from models.serving.upstream.turns import Turns
from models.serving.upstream.writing import UpstreamWriting, completion_body
from models.serving.usage import Work
from models.serving.writing import WriteRequest
from models.settings import Settings

log = structlog.get_logger(__name__)

_OVERHEAD_BYTES = 4_096


class UpstreamRunner:
    """Implements `models.serving.writing.WritingRunner` by a vLLM server. No weights of the base are read here."""

    base_adapter = None  # a base that writes gives no embeddings

    def __init__(self, entry: BackboneEntry, settings: Settings) -> None:
        """Create the runner; blocks. Raises GenerationUnavailable, GenerationMisconfigured, BaseModelUnreachable."""
        self._entry = entry
        self._settings = settings
        served = context_length(settings, entry.name)
        folder = fetch(entry, weights=False)
        self._tokenizer = ChatTokenizer(folder)
        self._revision = revision_here(entry, folder)
        described = (folder / "tokenizer.json").read_text("utf-8")
        self._token_bytes = TokenBytes(described)
        # As in Graft's own runner, schemas that cannot be kept to are refused: vLLM only warns of some.
        self._compiler = ConstraintCompiler(described, vocabulary=len(self._token_bytes), ends=self._tokenizer.ends)
        self.most_tokens = min(length for length in (entry.max_tokens, served) if length)
        self._turns = Turns(
            places=settings.generation_sequences, queue_per_customer=settings.generation_queue_per_customer
        )
        self._preparation = Preparation(self._turns.check_room)
        self._client = VllmClient(settings)
        self.loaded = LoadedAdapters(self._client, settings.generation_upstream_adapters)
        self._readers: set[asyncio.Task[None]] = set()
        self._closed = False
        self._requests = self._written = self._tokens = 0
        self._waits_s = Distribution(WAIT_BOUNDS_S)

    @classmethod
    def open(cls, entry: BackboneEntry, shared: SharedCompute) -> UpstreamRunner:
        """Find the server; blocks. Raises what the constructor does."""
        runner = cls(entry, shared.settings)
        log.info("upstream.found", base_model=entry.name, context=runner.most_tokens)
        return runner

    @property
    def waiting_rows(self) -> int:
        """Number of answers that have no place yet."""
        return self._turns.waiting

    @property
    def alive(self) -> bool:
        """True: nothing here can end. Whether the server answers is said by /readyz."""
        return True

    @property
    def busy(self) -> bool:
        """True while anything is written."""
        return self._turns.held > 0

    @property
    def counts(self) -> PassCounts:
        """Counts of what was written so far; passes are requests, rows are tokens that were written."""
        return PassCounts(
            base_model=self._entry.name,
            passes=self._requests,
            rows=self._written,
            tokens=self._tokens,
            waiting_rows=self._turns.waiting,
            queue_wait_s=self._waits_s,
        )

    def assemble(self, artifact: Artifact, version: ResolvedVersion) -> UpstreamAdapter:
        """Return the version's prompt and PEFT folder. Raises ArtifactBroken and OwnBlocksNotServed."""
        manifest = artifact.manifest
        if artifact.find(BlockWeights) is not None:
            raise OwnBlocksNotServed(model=version.full_name, version=version.number, strategy=manifest.strategy)
        try:
            if self._revision is not None and manifest.base_revision != self._revision:
                raise CorruptArtifact(
                    reason="its content does not fit (it was trained on another revision of its base)"
                )
            prompt, files = Prompt.of(manifest), self._files(artifact)
        except (CorruptArtifact, KeyError, ValueError) as error:
            raise ArtifactBroken(model=version.full_name, version=version.number, reason=str(error)) from error
        return UpstreamAdapter(
            task=manifest.task,
            key=version.manifest_sha256,
            customer_id=version.customer_id,
            prompt=prompt,
            files=files,
            nbytes=_OVERHEAD_BYTES + sum(map(len, files.values())),
            loaded=self.loaded,
        )

    def plain_adapter(self) -> UpstreamAdapter:
        """Return the base as it is, for whoever asks for it by its own name."""
        return UpstreamAdapter(task="text-generation", key=self._entry.revision)

    def read(self, adapter: UpstreamAdapter, value: Any, param: str, limits: Limits) -> Input:  # noqa: ARG002
        """Return a user's message or a conversation; raises InvalidInput."""
        return read_conversation(value, param, limits)

    async def submit(
        self,
        customer_id: str,
        adapter: UpstreamAdapter,
        inputs: Sequence[Input],
        count: Callable[[Work], None] | None = None,
    ) -> Written:
        """Write an answer to each input, greedily. Raises what `write` raises; leaves with its caller."""
        write = functools.partial(self.write, customer_id, adapter)
        return await write_each(write, inputs, self._settings, count)

    async def write(self, customer_id: str, adapter: UpstreamAdapter, request: WriteRequest) -> UpstreamWriting:
        """Begin to answer, once it is the customer's turn.

        Raises InvalidInput, ContextLengthExceeded, QueueFull, GenerationUnavailable, GenerationMisconfigured,
        GenerationInterrupted, DiskFull, ShuttingDown.
        """
        if self._closed:
            raise ShuttingDown()
        self.loaded.hold(adapter)  # before anything is awaited: the cache may drop it meanwhile

        def end() -> None:
            self._turns.give_back(customer_id, request.choices)
            self.loaded.release(adapter)

        try:
            prepare = functools.partial(self._prepare, adapter, request)
            tokens = await self._preparation.run(customer_id, request.choices, prepare)
            asked_at = time.perf_counter()
            await self._turns.take(customer_id, request.choices)
        except BaseException:
            self.loaded.release(adapter)
            raise
        try:
            self._waits_s.observe(time.perf_counter() - asked_at)
            return await self._begin(customer_id, adapter, request, tokens, end)
        except BaseException:
            end()
            raise

    def forget_customer(self, customer_id: str) -> None:
        """Nothing is kept beside adapters: those go with the cache's, and prefixes are salted by version."""

    def forget_version(self, customer_id: str, manifest_sha256: str) -> None:
        """Nothing is kept beside adapters."""

    async def close(self) -> None:
        """Read what is being written to its end, then stop."""
        self._closed = True
        self._preparation.close()
        while self._readers:
            await asyncio.wait(self._readers)
        await self.loaded.close()
        await self._client.close()

    async def _begin(
        self, customer_id: str, adapter: UpstreamAdapter, request: WriteRequest, tokens: list[int], end: Any
    ) -> UpstreamWriting:
        most = longest_answer(
            request, prompt=len(tokens), context=self.most_tokens, default=self._settings.generation_max_tokens
        )
        answer = None
        for again in (False, True):
            model = await self.loaded.load(adapter, again=again) if adapter.files else self._entry.name
            body = completion_body(
                request,
                model=model,
                tokens=tokens,
                most=most,
                ends=self._tokenizer.ends,
                salt=root_digest(customer_id, adapter.key).hex(),
            )
            try:
                answer = await self._client.complete(body)
                break
            except NotLoaded:
                log.warning("upstream.lost", model=model)
        if answer is None:
            raise GenerationInterrupted(reason="it has lost the model twice")
        self._requests += 1
        self._count(customer_id, len(tokens))

        def written(count: int) -> None:
            self._written += count
            self._count(customer_id, count)

        writing = UpstreamWriting(len(tokens), request.params, self._token_bytes, written)
        reader = writing.begin(answer, end)
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        return writing

    def _count(self, customer_id: str, tokens: int) -> None:
        self._tokens += tokens
        self._turns.charge(customer_id, tokens)

    def _prepare(self, adapter: UpstreamAdapter, request: WriteRequest) -> list[int]:
        """Return the prompt's tokens; blocks. Raises InvalidInput, for a schema that cannot be kept to, too."""
        if request.schema is not None:
            self._compiler.compile(request.schema)
        return prompt_tokens(self._tokenizer, adapter.prompt, request, of_customer=bool(adapter.customer_id))

    def _files(self, artifact: Artifact) -> dict[str, bytes]:
        if artifact.find(LowRankWeights) is None:
            return {}
        weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in artifact.tensors.items()})
        found = peft_adapter.convert(artifact.manifest, weights, base=self._entry.name)
        if found is None:
            raise CorruptArtifact(reason="its matrices are not of one rank")
        return found.files
