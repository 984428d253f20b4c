from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.backbones import loading, registry
from models.backbones.backbone import Backbone
from models.backbones.text import TextBackbone
from models.datasets.examples import Media, TextPair
from models.serving.adapters.adapter import embedding_adapter
from models.serving.encoders.engine import Engine
from models.serving.encoders.engine_parts import EngineLimits, EngineParts
from models.serving.encoders.input_modes import tokenize
from models.serving.encoders.pass_cost import PassCost
from models.serving.encoders.passes import answer
from models.serving.encoders.requests import QUICK_ROWS, Request, queued_inputs
from models.serving.errors import DeviceMemoryFull, QueueFull, ShuttingDown
from models.settings import Settings
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import picture
from tests.models.serving.conftest import TEXTS, until


@asynccontextmanager
async def running(
    backbone: Backbone, *, batch_tokens: int = 256, queue_per_customer: int = 500, **parts: Any
) -> AsyncIterator[Engine]:
    engine = Engine(backbone, EngineLimits(batch_tokens, queue_per_customer), parts=EngineParts(**parts))
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()


class HeldPasses:
    """Passes that begin when `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        self.release.wait(20)
        return answer(*arguments)


def test_a_caller_that_gives_up_leaves_the_queue(backbone: TextBackbone) -> None:
    held = HeldPasses()

    async def run() -> None:
        async with running(backbone, answer=held) as engine:
            first = asyncio.create_task(engine.submit("a", engine.embedding, TEXTS[:1]))
            await until(lambda: first.done() or (engine.waiting_of("a") == 0 and engine.busy))
            gone = asyncio.create_task(engine.submit("b", engine.embedding, TEXTS * 50))
            stays = asyncio.create_task(engine.submit("b", engine.embedding, TEXTS))
            await until(lambda: engine.waiting_of("b") == 51 * len(TEXTS))
            gone.cancel()
            await until(gone.done)
            await until(lambda: engine.waiting_of("b") == len(TEXTS))
            held.release.set()
            await first
            assert all(len(output) == backbone.width for output in (await stays).outputs)
            assert engine.rows == 1 + len(TEXTS)
            assert engine.waiting_rows == 0

    asyncio.run(run())


def test_a_flood_is_refused_and_hurts_nobody_else(backbone: TextBackbone) -> None:
    held = HeldPasses()

    async def run() -> None:
        async with running(backbone, answer=held) as engine:
            flood = [asyncio.create_task(engine.submit("flood", engine.embedding, TEXTS)) for _ in range(200)]
            await until(lambda: sum(task.done() for task in flood) > 0)
            refused = [task for task in flood if task.done()]
            assert all(isinstance(task.exception(), QueueFull) for task in refused)
            error = refused[0].exception()
            assert isinstance(error, QueueFull)
            assert error.retry_after_s >= 1
            assert engine.waiting_of("flood") <= 500
            quiet = asyncio.create_task(engine.submit("quiet", engine.embedding, TEXTS[:1]))
            await until(lambda: engine.waiting_of("quiet") == 1)
            held.release.set()
            await quiet
            # Of the flood, only what was under way and the batch that the quiet row rode in came before it.
            assert engine.passes <= 3
            await asyncio.gather(*flood, return_exceptions=True)

    asyncio.run(run())


def test_a_request_over_the_limit_waits_alone(backbone: TextBackbone) -> None:
    async def run() -> None:
        async with running(backbone, queue_per_customer=10) as engine:
            assert len((await engine.submit("a", engine.embedding, TEXTS * 4)).outputs) == 4 * len(TEXTS)

    asyncio.run(run())


def test_large_requests_are_cut_into_slices(backbone: TextBackbone) -> None:
    async def run() -> None:
        async with running(backbone) as engine:
            large = asyncio.create_task(engine.submit("large", engine.embedding, TEXTS * 60))
            await until(lambda: engine.passes > 0)
            await engine.submit("small", engine.embedding, TEXTS[:1])
            assert not large.done()
            await large
            assert engine.passes > 10

    asyncio.run(run())


@pytest.mark.skipif(DEVICE != "cpu", reason="a GPU's passes are bounded by memory")
@pytest.mark.parametrize(("start_s", "token_s", "least", "most"), [(0.0, 0.001, 0, 120), (0.02, 0.0, 200, 320)])
def test_passes_are_as_long_as_pays_off(
    minilm: TextBackbone,
    start_s: float,
    token_s: float,
    least: int,
    most: int,
) -> None:
    sizes: list[int] = []

    class Machine(PassCost):
        """Passes that take what they should, whatever else this machine does."""

        def observe(self, tokens: int, rows: int, seconds: float) -> None:
            sizes.append(tokens)
            super().observe(tokens, rows, start_s + token_s * tokens)

    async def go() -> None:
        async with running(minilm, batch_tokens=1_000, cost=Machine()) as engine:
            for rows in [1, 6, 3, 8, 2, 5] * 3:
                await engine.submit("a", engine.embedding, (TEXTS * 2)[:rows])
            sizes.clear()
            await engine.submit("a", engine.embedding, TEXTS * 12)

    asyncio.run(go())
    assert least <= max(sizes) <= most


def test_a_pass_that_does_not_fit_into_the_gpu_is_divided(backbone: TextBackbone) -> None:
    sizes: list[int] = []

    def answer_in_little_memory(base: Any, rows: list[Any], adapters: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 2 or len(rows[0]) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(base, rows, adapters)

    async def go() -> None:
        async with running(backbone, batch_tokens=4_096) as engine:
            whole = await engine.submit("a", engine.embedding, TEXTS)
        async with running(backbone, batch_tokens=4_096, answer=answer_in_little_memory) as engine:
            again = await engine.submit("a", engine.embedding, TEXTS)
            for one, other in zip(whole.outputs, again.outputs, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-5)
            assert max(sizes) > 2
            with pytest.raises(DeviceMemoryFull, match="GRAFT_BATCH_TOKENS"):
                await engine.submit("a", engine.embedding, ["word " * 60])

    asyncio.run(go())


def test_what_a_failed_pass_had_in_memory_is_gone_before_it_is_tried_again(backbone: TextBackbone) -> None:
    held, alive = list[Any](), list[int]()

    def answer_in_little_memory(base: Any, rows: list[Any], adapters: Any) -> Any:
        alive.append(sum(reference() is not None for reference in held))
        if len(rows) > 1:
            activations = np.zeros(10)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(base, rows, adapters)

    async def go() -> None:
        async with running(backbone, batch_tokens=4_096, answer=answer_in_little_memory) as engine:
            await engine.submit("a", engine.embedding, TEXTS)

    asyncio.run(go())
    assert len(held) > 2
    assert max(alive) == 0


def test_a_row_that_cannot_be_answered_fails_alone(backbone: TextBackbone) -> None:
    def trip(encoder: Any, token_ids: Any, adapters: Any) -> Any:
        if any(adapter.task == "broken" for adapter in adapters):
            raise RuntimeError("this adapter does not compute")
        return answer(encoder, token_ids, adapters)

    async def run() -> None:
        async with running(backbone, answer=trip) as engine:
            broken = replace(engine.embedding, task="broken")
            submitted = [engine.submit(name, engine.embedding, TEXTS) for name in "abc"]
            submitted.append(engine.submit("d", broken, TEXTS))
            answers = await asyncio.gather(*submitted, return_exceptions=True)
            assert isinstance(answers[3], RuntimeError)
            assert all(not isinstance(one, BaseException) for one in answers[:3])
            assert len((await engine.submit("d", engine.embedding, TEXTS)).outputs) == len(TEXTS)

    asyncio.run(run())


def test_the_budget_of_a_pass_is_of_what_pictures_cost(tmp_path: Path) -> None:
    media_checkpoints.write(tmp_path / "vit", "vit")
    bases = tmp_path / "bases.json"
    source = {"folder": str(tmp_path / "vit")}
    bases.write_text(json.dumps({"vit": {"modality": "image", "source": source, "licence": "none"}}))
    entry = registry.find(Settings(base_models_file=bases), "vit")
    vit = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    pictures = [Media("", picture(seed=at)) for at in range(QUICK_ROWS)]
    (cost,) = {len(row) for row in vit.tokenize(pictures)}
    passes: list[int] = []

    def note_and_answer(base: Any, rows: Any, adapters: Any) -> Any:
        passes.append(len(rows))
        return answer(base, rows, adapters)

    async def run() -> None:
        async with running(vit, batch_tokens=2 * cost, answer=note_and_answer) as engine:
            request = await engine.submit("a", engine.embedding, pictures)
            assert request.tokens == cost * len(pictures)

    asyncio.run(run())
    assert sum(passes) == len(pictures)
    assert max(passes) <= 2


def test_no_worker_thread_tokenises_what_takes_long(backbone: TextBackbone) -> None:
    readers: set[str] = set()

    def note_and_tokenize(*arguments: Any) -> Any:
        readers.add(threading.current_thread().name.partition("-")[0])
        return tokenize(*arguments)

    async def run() -> None:
        async with running(backbone, tokenize=note_and_tokenize) as engine:
            await engine.submit("a", engine.embedding, TEXTS)
            assert readers == {"compute"}
            readers.clear()
            await engine.submit("a", engine.embedding, ["word " * 20_000])
            await engine.submit("a", engine.embedding, ["word " * 1_000] * QUICK_ROWS)
            paired = replace(engine.embedding, input_mode="pair")
            await engine.submit("a", paired, [TextPair("?", "word " * 20_000)])
            assert readers == {"tokenize"}

    asyncio.run(run())


def test_a_text_waits_as_what_the_base_reads_of_it(backbone: TextBackbone) -> None:
    most = backbone.entry.max_tokens
    inputs = ["word " * 1_500, "?", TextPair("word " * 800, "word " * 700)]

    async def run() -> None:
        request = Request(
            customer_id="a",
            adapter=embedding_adapter(backbone.blocks),
            answered=asyncio.get_running_loop().create_future(),
            inputs=inputs,
            outputs=[],
            left=len(inputs),
        )
        assert [row.cost for row in queued_inputs(request, most=most)] == [most, 2, 2 * most]

    asyncio.run(run())


def test_a_closed_engine_answers_what_waits_and_takes_no_more(backbone: TextBackbone) -> None:
    async def run() -> None:
        async with running(backbone) as engine:
            waiting = [asyncio.create_task(engine.submit("a", engine.embedding, TEXTS)) for _ in range(10)]
            await asyncio.sleep(0)
        assert all(len(request.outputs) == len(TEXTS) for request in await asyncio.gather(*waiting))
        with pytest.raises(ShuttingDown):
            await engine.submit("a", engine.embedding, TEXTS)

    asyncio.run(run())
