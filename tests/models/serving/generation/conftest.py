"""A tiny base that writes, versions of it, and a runner on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import torch

from models.artifacts.folder import Artifact
from models.artifacts.manifest import Manifest
from models.artifacts.parts import BlockWeights, LowRankWeights, Part
from models.artifacts.prompt import Prompt
from models.backbones import causal
from models.backbones.decoder import LINEAR_LAYERS
from models.backbones.writing import DecoderBackbone, load_decoder
from models.services.catalog import ResolvedVersion
from models.serving.generation.adapters import WritingAdapter
from models.serving.generation.runner import GenerationRunner
from models.serving.writing import Piece, SamplingParams, WriteRequest, Writing
from models.settings import Settings
from tests.device import DEVICE
from tests.models.backbones import decoder_checkpoints

GREEDY = SamplingParams(max_tokens=12, temperature=0.0)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> DecoderBackbone:
    entry = decoder_checkpoints.write(tmp_path_factory.mktemp("tiny") / "base")
    return load_decoder(entry, device=DEVICE, precision="fp32", threads=1)


@asynccontextmanager
async def running(backbone: DecoderBackbone, **changes: Any) -> AsyncIterator[GenerationRunner]:
    runner = GenerationRunner(backbone, Settings(**{"generation_memory_bytes": 2**20, **changes}))
    try:
        yield runner
    finally:
        await runner.close()


def low_rank(backbone: DecoderBackbone, seed: int, rank: int = 4) -> LowRankWeights:
    """Random matrices on every linear layer, large enough to change the answers."""
    random = torch.Generator().manual_seed(seed)
    pairs = {}
    for block, layer in enumerate(backbone.network.blocks):
        for name in LINEAR_LAYERS:
            height, width = layer.get_submodule(name).weight.shape
            down = torch.randn(rank, width, generator=random) / width**0.5
            pairs[block, name] = down, torch.randn(height, rank, generator=random) * 0.3
    return LowRankWeights(pairs)


def own_block(backbone: DecoderBackbone, seed: int) -> BlockWeights:
    """The last block, changed."""
    random, last = torch.Generator().manual_seed(seed), backbone.blocks - 1
    state = backbone.network.blocks[last].state_dict()
    return BlockWeights(
        {last: {name: value + 0.1 * torch.randn(value.shape, generator=random) for name, value in state.items()}}
    )


def artifact(backbone: DecoderBackbone, *parts: Part, prompt: Prompt | None = None) -> Artifact:
    details = {} if prompt is None else prompt.as_details()
    manifest = Manifest("text-generation", "lora", (), (), backbone.entry.name, backbone.revision, details=details)
    return Artifact(manifest, parts)


def version(customer: str, manifest: str = "v1") -> ResolvedVersion:
    return ResolvedVersion(
        customer_id=customer,
        model_id="model",
        name="writer",
        full_name=f"ft:tiny-writer:{customer}:writer",
        number=1,
        artifact_prefix="",
        manifest_sha256=manifest,
        base_model="tiny-writer",
        task="text-generation",
    )


def adapter(runner: GenerationRunner, customer: str, *parts: Part, prompt: Prompt | None = None) -> WritingAdapter:
    return runner.assemble(artifact(runner.backbone, *parts, prompt=prompt), version(customer))


class SlowSchema(dict[str, Any]):
    """A schema whose compiling waits; `begun` counts how often it was begun."""

    def __init__(self, going_on: threading.Event) -> None:
        super().__init__(type="object")
        self.begun, self._going_on = 0, going_on

    def items(self) -> Any:  # as `json.dumps` reads it
        self.begun += 1
        assert self._going_on.wait(60)
        return super().items()


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def collect(writing: Writing) -> list[Piece]:
    pieces = []
    async with asyncio.timeout(60):
        while (piece := await writing.next()) is not None:
            pieces.append(piece)
    return pieces


async def answer(
    runner: GenerationRunner,
    adapter: WritingAdapter,
    prompt: Sequence[Any] | str,
    params: SamplingParams = GREEDY,
    customer: str = "acme",
    **more: Any,
) -> str:
    writing = await runner.write(customer, adapter, WriteRequest(prompt, params, **more))
    return "".join(piece.text for piece in await collect(writing))


def plain_greedy(
    backbone: DecoderBackbone, tokens: list[int], count: int, pairs: LowRankWeights | None = None
) -> list[int]:
    """The loop that anybody would write: the whole sequence again for every token."""

    def project(block: int, name: str, layer: torch.nn.Linear, input_NI: torch.Tensor) -> torch.Tensor:
        output_NO = layer(input_NI)
        if pairs is None:
            return output_NO
        down_RI, up_OR = pairs.pairs[block, name]
        return output_NO + input_NI @ down_RI.T @ up_OR.T

    written: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            rows = [*tokens, *written]
            hidden_ND = backbone.network.run(
                backbone.network.embed(torch.tensor(rows)),
                torch.arange(len(rows)),
                causal.attend_within([len(rows)]),
                project,
            )
            token = int(backbone.network.logits(hidden_ND[-1:]).argmax())
            if token in backbone.config.ends:
                break
            written.append(token)
    return written


@pytest.fixture
def play() -> Callable[..., Any]:
    """Runs a coroutine, with a deadline."""

    def run(work: Any) -> Any:
        return asyncio.run(asyncio.wait_for(work, 90))

    return run
