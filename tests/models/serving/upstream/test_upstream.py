"""Versions that a vLLM server writes: loaded there when they are asked for, gone when they are not needed.

The server is a stand-in (`vllm_stand_in`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import Artifact
from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import catalog, customers
from models.services.errors import StrategyNotServed
from models.services.jobs import JobRequest
from models.services.resources import Resources
from models.services.submission import check
from models.serving.errors import (
    ContextLengthExceeded,
    GenerationInterrupted,
    GenerationMisconfigured,
    GenerationUnavailable,
    InvalidInput,
    OwnBlocksNotServed,
    QueueFull,
)
from models.serving.predictor import PredictCall, Predictor
from models.serving.writing import SamplingParams, WriteRequest
from models.serving.written_answer import WriteCall
from models.settings import Settings
from tests.models.serving.conftest import until
from tests.models.serving.generation.conftest import SlowSchema, artifact, chat, collect, low_rank, own_block
from tests.models.serving.upstream.vllm_stand_in import VllmStandIn, serving

ASKED = chat("Where is it?")
FEW_SHOT = Prompt(
    "few-shot", "Be short.", (({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}),)
)
Publish = Callable[[Customer, Artifact], ModelVersion]


async def _write(
    predictor: Predictor, owner: Customer, model: str = "writer", prompt: Any = ASKED, **params: Any
) -> str:
    answer = await predictor.write(WriteCall(owner.id, model, WriteRequest(prompt, SamplingParams(**params))))
    try:
        return "".join([piece.text async for piece in answer.pieces()])
    finally:
        answer.close()


def test_versions_are_loaded_once_and_prompts_are_laid_out_here(
    customer: Callable[..., Customer],
    publish: Publish,
    predicting: Any,
    tiny: DecoderBackbone,
    vllm: VllmStandIn,
) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    publish(acme, artifact(tiny, low_rank(tiny, 1)))
    publish(zeta, artifact(tiny, prompt=FEW_SHOT))

    async def run() -> None:
        async with predicting() as (predictor, runner):
            texts = await asyncio.gather(*(_write(predictor, acme) for _ in range(4)))
            (name,) = vllm.loaded
            plain = tiny.encode_chat(ASKED, add_generation_prompt=True)
            assert set(texts) == {f"{name[-8:]} read {len(plain)}"}
            assert vllm.history == [("load", name)]
            assert vllm.loaded[name] == 4
            # Examples go as a prompt, to the base itself; nothing is loaded for them.
            before = [{"role": "system", "content": "Be short."}, *FEW_SHOT.examples[0], *ASKED]
            tokens = tiny.encode_chat(before, add_generation_prompt=True)
            assert await _write(predictor, zeta) == f"y-writer read {len(tokens)}"
            assert vllm.bodies[-1]["prompt"] == tokens
            assert len({body["cache_salt"] for body in vllm.bodies}) == 2
            found = await predictor.predict(PredictCall(acme.id, acme.name, "writer", ["Where is it?"]))
            assert found.predictions == [{"text": texts[0]}]
            tokens_of = {key[:2]: one.tokens for key, one in predictor.meter._sums.items()}
            each = len(plain) + len(texts[0])
            assert tokens_of[acme.id, "ft:tiny-writer:acme:writer"] == 5 * each
            assert runner.counts.passes == 6

    asyncio.run(run())


def test_what_is_evicted_promoted_away_or_deleted_is_unloaded(
    customer: Callable[..., Customer],
    publish: Publish,
    predicting: Any,
    tiny: DecoderBackbone,
    vllm: VllmStandIn,
    resources: Resources,
    settings: Settings,
) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    publish(acme, artifact(tiny, low_rank(tiny, 1)))
    publish(zeta, artifact(tiny, low_rank(tiny, 2)))

    def folders() -> set[str]:
        return {path.name for path in settings.generation_upstream_adapters.glob("*/*/")}

    async def run() -> None:
        async with predicting() as (predictor, _):
            for owner in (acme, zeta):
                await _write(predictor, owner)
            first, _ = vllm.loaded
            assert folders() == set(vllm.loaded)
            # Promoted away, while it writes: its answer is finished first.
            vllm.going_on.clear()
            slow = asyncio.create_task(_write(predictor, acme))
            await until(lambda: vllm.writing == 1)
            further = await asyncio.to_thread(publish, acme, artifact(tiny, low_rank(tiny, 3)))
            await asyncio.to_thread(catalog.set_alias, resources, acme.id, "writer", "live", further.number)
            try:
                await until(lambda: predictor.cache.loads == 3 and len(predictor.cache) == 2)
                assert first in vllm.loaded
            finally:
                vllm.going_on.set()
            assert (await slow).startswith(first[-8:])
            await until(lambda: first not in vllm.loaded and first not in folders())
            assert (await _write(predictor, acme)).startswith(further.manifest_sha256[-8:])
            await asyncio.to_thread(customers.delete, resources, zeta.id)
            await until(lambda: len(vllm.loaded) == len(folders()) == 1)
            # Who pins a version gets it all the same; where there is no room, it goes with its answer.
            predictor.cache.limit_bytes = 1
            assert (await _write(predictor, acme, "writer@1")).startswith(first[-8:])
            await until(lambda: not vllm.loaded and not folders())

    asyncio.run(run())


def test_an_adapter_that_the_server_has_lost_is_loaded_again(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, tiny: DecoderBackbone, vllm: VllmStandIn
) -> None:
    acme = customer("acme")
    publish(acme, artifact(tiny, low_rank(tiny, 1)))

    async def run() -> None:
        async with predicting() as (predictor, _):
            text = await _write(predictor, acme)
            (name,) = vllm.loaded
            vllm.loaded.clear()  # it was started anew
            assert await _write(predictor, acme) == text
            assert vllm.history == [("load", name)] * 2
        async with predicting() as (predictor, _):  # this process was: what the last one left is unloaded first
            assert await _write(predictor, acme) == text
            assert vllm.history[2:] == [("unload", name), ("load", name)]

    asyncio.run(run())


def test_who_leaves_ends_the_writing_there(
    customer: Callable[..., Customer], publish: Publish, predicting: Any, tiny: DecoderBackbone, vllm: VllmStandIn
) -> None:
    acme = customer("acme")
    publish(acme, artifact(tiny, low_rank(tiny, 1)))

    async def run() -> None:
        async with predicting() as (predictor, runner):
            vllm.going_on.clear()
            call = WriteCall(acme.id, "writer", WriteRequest(ASKED, choices=2))
            answer = await predictor.write(call)
            pieces = answer.pieces()
            assert (await anext(pieces)).text
            answer.close()
            await until(lambda: vllm.left_by_client == 1 and not runner.busy)
            assert answer.writing.completion_tokens == 2
            (found,) = predictor.meter._sums.values()
            assert (found.requests, found.tokens) == (1, answer.writing.prompt_tokens + 2)
            vllm.going_on.set()

    asyncio.run(run())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_is_unavailable(
    customer: Callable[..., Customer], predicting: Any, vllm: VllmStandIn, status: int
) -> None:
    acme = customer("acme")

    async def run() -> None:
        async with predicting() as (predictor, runner):
            vllm.status = status
            with pytest.raises(GenerationUnavailable, match=str(status)):
                await _write(predictor, acme, "tiny-writer")
            vllm.status, vllm.breaks_after = 200, 3
            with pytest.raises(GenerationInterrupted):
                await _write(predictor, acme, "tiny-writer")
            vllm.breaks_after = None
            assert await _write(predictor, acme, "tiny-writer")
            await until(lambda: not runner.busy)

    asyncio.run(run())


def test_a_server_that_is_down_is_found_when_it_is_back(
    customer: Callable[..., Customer],
    settings: Settings,
    resources: Resources,
    tiny: DecoderBackbone,
    vllm: VllmStandIn,
) -> None:
    acme = customer("acme")

    async def run() -> None:
        with serving(VllmStandIn("another-base", tiny.folder)) as other:
            predictor = Predictor(settings.model_copy(update={"generation_upstream": other.url}), resources)
            await predictor.start()
            try:
                with pytest.raises(GenerationMisconfigured, match="--served-model-name tiny-writer"):
                    await _write(predictor, acme, "tiny-writer")
                other.base = "tiny-writer"
                port = int(other.url.rpartition(":")[2])
                assert await _write(predictor, acme, "tiny-writer")
                assert await predictor.embed(["a text"], "minilm")
            except BaseException:
                await predictor.close()
                raise
        try:
            with pytest.raises(GenerationUnavailable) as caught:
                await _write(predictor, acme, "tiny-writer")
            assert caught.value.retry_after_s > 0
            assert other.url not in str(caught.value)
            with serving(VllmStandIn("tiny-writer", tiny.folder), port=port):
                assert await _write(predictor, acme, "tiny-writer")
        finally:
            await predictor.close()

    asyncio.run(run())


def test_one_customers_schemas_stop_nobody_else(customer: Callable[..., Customer], predicting: Any) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    going_on, asked = threading.Event(), 40  # more than the event loop has default threads
    schemas = [SlowSchema(going_on) for _ in range(asked)]

    async def run() -> None:
        async with predicting(generation_queue_per_customer=asked) as (predictor, runner):

            async def ask(schema: SlowSchema | None) -> str:
                writing = await runner.write(acme.id, runner.plain_adapter(), WriteRequest(ASKED, schema=schema))
                return "".join(piece.text for piece in await collect(writing))

            waiting = [asyncio.create_task(ask(schema)) for schema in schemas]
            try:
                await until(lambda: any(schema.begun for schema in schemas))
                with pytest.raises(QueueFull):
                    await ask(None)
                async with asyncio.timeout(20):
                    assert await asyncio.to_thread(lambda: True)  # as keys and aliases are looked up
                    assert await _write(predictor, zeta, "tiny-writer")
                assert sum(schema.begun for schema in schemas) == 1
            finally:
                going_on.set()
            assert all(await asyncio.gather(*waiting))

    asyncio.run(asyncio.wait_for(run(), 90))


def test_what_cannot_be_written_there_is_refused_here(
    customer: Callable[..., Customer],
    publish: Publish,
    predicting: Any,
    tiny: DecoderBackbone,
    settings: Settings,
) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    publish(acme, artifact(tiny, own_block(tiny, 1)))
    publish(zeta, artifact(tiny, low_rank(tiny, 1, rank=32)))

    async def run() -> None:
        async with predicting() as (predictor, _):
            with pytest.raises(OwnBlocksNotServed, match="low-rank matrices only"):
                await _write(predictor, acme)
            with pytest.raises(GenerationUnavailable):  # the server's own limit; its words are in the log
                await _write(predictor, zeta)
            with pytest.raises(ContextLengthExceeded):
                await _write(predictor, acme, "tiny-writer", max_tokens=510)
            request = WriteRequest(ASKED, schema={"$ref": "http://elsewhere/x"})
            with pytest.raises(InvalidInput):
                await predictor.write(WriteCall(acme.id, "tiny-writer", request))

    asyncio.run(run())
    with pytest.raises(StrategyNotServed):
        check(settings, JobRequest("file-1", model="tiny-writer", strategy="full"), task=None)
    assert check(settings, JobRequest("file-1", model="tiny-writer", strategy="lora"), task=None)


def test_parameters_and_probabilities_go_both_ways(
    customer: Callable[..., Customer], predicting: Any, vllm: VllmStandIn, tiny: DecoderBackbone
) -> None:
    acme = customer("acme")

    async def run() -> None:
        async with predicting() as (predictor, _):
            params = SamplingParams(
                max_tokens=5, temperature=0.5, top_p=0.0, seed=3, stop=("x",), logit_bias={5: 2.0}, logprobs=2
            )
            answer = await predictor.write(
                WriteCall(acme.id, "tiny-writer", WriteRequest(ASKED, params, schema={"type": "object"}))
            )
            pieces = [piece async for piece in answer.pieces()]
            answer.close()
            body = vllm.bodies[0]
            schema = body["response_format"]["json_schema"]["schema"]
            assert schema.pop("x-guidance")["whitespace_flexible"] is False  # whitespace is no answer
            assert schema == {"type": "object"}
            sent = {name: body[name] for name in ("max_tokens", "temperature", "seed", "stop", "logit_bias", "n")}
            assert sent == {
                "max_tokens": 5, "temperature": 0.5, "seed": 3, "stop": ["x"], "logit_bias": {"5": 2.0}, "n": 1
            }  # fmt: skip
            assert 0 < body["top_p"] < 1e-6
            assert body["stop_token_ids"] == list(tiny.config.ends)
            assert [piece.finish_reason for piece in pieces] == [None] * 4 + ["length"]
            assert "".join(piece.text for piece in pieces) == "y-wri"
            (logprob,) = pieces[0].logprobs
            assert (logprob.text, logprob.data, logprob.logprob) == ("y", b"y", -0.25)
            assert [top.logprob for top in logprob.top] == [-0.25, -2.0]
            assert answer.writing.cached_tokens == 7

    asyncio.run(run())


def test_the_folder_is_one_that_peft_loads(
    customer: Callable[..., Customer],
    publish: Publish,
    predicting: Any,
    tiny: DecoderBackbone,
    vllm: VllmStandIn,
    settings: Settings,
) -> None:
    acme = customer("acme")
    version = publish(acme, artifact(tiny, low_rank(tiny, 1)))

    async def run() -> None:
        async with predicting() as (predictor, _):
            await _write(predictor, acme)
            (name,) = vllm.loaded
            (folder,) = settings.generation_upstream_adapters.glob("*/*/")
            assert folder.name == name
            assert name.endswith(version.manifest_sha256)
            assert {path.name for path in Path(folder).iterdir()} == {
                "adapter_config.json", "adapter_model.safetensors", "generation.json"
            }  # fmt: skip
            resolved = await asyncio.to_thread(catalog.resolve, predictor._resources, acme.id, "writer")
            assert resolved.manifest_sha256 == version.manifest_sha256

    asyncio.run(run())
