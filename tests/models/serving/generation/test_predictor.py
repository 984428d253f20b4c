"""Published versions that write, through the predictor: adapters, prefixes, usage, deletion."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import Artifact
from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.datasets.limits import Limits
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import customers
from models.services.resources import Resources
from models.serving.conversations import read_conversation
from models.serving.errors import ContextLengthExceeded, InvalidInput
from models.serving.predictor import PredictCall, Predictor
from models.serving.runners import WRITING_RUNNER
from models.serving.writing import SamplingParams, WriteRequest
from models.serving.written_answer import WriteCall
from models.settings import Settings
from tests.models.backbones import decoder_checkpoints
from tests.models.serving import written_versions
from tests.models.serving.conftest import until
from tests.models.serving.generation.conftest import GREEDY, artifact, chat, low_rank

FEW_SHOT = Prompt(
    "few-shot", "Be short.", (({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}),)
)


@pytest.fixture
def settings(settings: Settings, tiny: DecoderBackbone, tmp_path: Path) -> Settings:
    bases = decoder_checkpoints.offer(tiny.folder, tmp_path / "bases.json")
    changes = {
        "base_models_file": bases,
        "generation_base_model": "tiny-writer",
        "generation_memory_bytes": 2**20,
        "generation_max_tokens": 8,
        "precision": "fp32",
        "directory_poll_s": 0.05,
    }
    return settings.model_copy(update=changes)


@pytest.fixture
def publish(resources: Resources, tmp_path: Path) -> Callable[[Customer, Artifact], ModelVersion]:
    """Publishes a further version of the customer's model `writer`, promoted."""
    return lambda owner, made: written_versions.publish(resources, owner, made, tmp_path)


def _counted(predictor: Predictor) -> tuple[int, int, int]:
    """Requests, rows and tokens that were counted so far."""
    sums = predictor.meter._sums.values()
    return sum(one.requests for one in sums), sum(one.rows for one in sums), sum(one.tokens for one in sums)


@asynccontextmanager
async def predicting(settings: Settings, resources: Resources) -> AsyncIterator[Predictor]:
    predictor = Predictor(settings, resources)
    predictor.meter._flush_s = 3_600.0  # tests read what was counted, however long they take
    try:
        await predictor.start()
        yield predictor
    finally:
        await predictor.close()


async def _text(predictor: Predictor, owner: Customer, prompt: Any, model: str = "writer") -> str:
    answer = await predictor.write(WriteCall(owner.id, model, WriteRequest(prompt, GREEDY)))
    try:
        return "".join([piece.text async for piece in answer.pieces()])
    finally:
        answer.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"role": 5}, "inputs[0][1].role"),
        ({"role": None}, "inputs[0][1].role"),
        ({"role": ["user"]}, "inputs[0][1].role"),
        ({"tool_calls": 5}, "inputs[0][1] has tool_calls"),
        ({"more": json.loads("[" * 900 + "]" * 900)}, "nested too deeply"),
    ],
)
def test_what_is_no_message_is_refused(wrong: dict[str, Any], said: str) -> None:
    messages = [*chat("x"), {"role": "user", "content": "y", **wrong}]
    with pytest.raises(InvalidInput) as caught:
        read_conversation({"messages": messages}, "inputs[0]", Limits())
    assert said in str(caught.value)
    assert caught.value.param == "inputs[0]"


def test_versions_write_beside_each_other(
    customer: Callable[..., Customer],
    resources: Resources,
    settings: Settings,
    tiny: DecoderBackbone,
    publish: Callable[[Customer, Artifact], ModelVersion],
) -> None:
    acme, zeta = customer("acme"), customer("zeta")
    publish(acme, artifact(tiny, low_rank(tiny, 1)))
    publish(zeta, artifact(tiny, prompt=FEW_SHOT))

    async def run() -> None:
        async with predicting(settings, resources) as predictor:
            assert await predictor.writes(acme.id, "writer")
            assert await predictor.writes(acme.id, "tiny-writer")
            asked = chat("Where is it?")
            texts = await asyncio.gather(
                _text(predictor, acme, asked),
                _text(predictor, zeta, asked),
                _text(predictor, zeta, asked, "tiny-writer"),
            )
            assert len(set(texts)) == 3
            before = [{"role": "system", "content": "Be short."}, *FEW_SHOT.examples[0], *asked]
            assert texts[1] == await _text(predictor, zeta, before, "tiny-writer")
            # A bare prompt is a user's message to a version that was taught by chats.
            assert await _text(predictor, acme, "Where is it?") == texts[0]
            answer = await predictor.predict(
                PredictCall(acme.id, acme.name, "writer", ["Where is it?", {"messages": asked}])
            )
            assert [found["text"] for found in answer.predictions] == [
                texts[0][: len(answer.predictions[0]["text"])]
            ] * 2
            assert answer.task == "text-generation"
            with pytest.raises(InvalidInput) as caught:
                await predictor.predict(PredictCall(acme.id, acme.name, "writer", [[{"role": "user"}]]))
            assert caught.value.param == "inputs[0]"
            counted = {key[:2]: found.requests for key, found in predictor.meter._sums.items()}
            assert counted[acme.id, "ft:tiny-writer:acme:writer"] == 3
            assert counted[zeta.id, "tiny-writer"] == 2
            await asyncio.to_thread(customers.delete, resources, zeta.id)
            await until(lambda: len(predictor.cache) == 1)

    asyncio.run(run())


def test_what_was_computed_is_counted_once_however_it_ends(
    customer: Callable[..., Customer],
    resources: Resources,
    settings: Settings,
    tiny: DecoderBackbone,
    publish: Callable[[Customer, Artifact], ModelVersion],
) -> None:
    acme = customer("acme")
    publish(acme, artifact(tiny, low_rank(tiny, 1)))
    asked = ["Where is it?"] * 3
    each = len(tiny.encode_chat(chat(asked[0]), add_generation_prompt=True))

    async def run() -> None:
        async with predicting(settings.model_copy(update={"generation_sequences": 1}), resources) as predictor:
            runner: Any = await predictor._runners.get(WRITING_RUNNER, "tiny-writer")
            engine, going_on = runner.engine, threading.Event()
            compute, steps = engine._compute, 0

            def stopping(stretches: Any) -> Any:
                nonlocal steps
                steps += 1
                assert steps < 12 or going_on.wait(60)
                return compute(stretches)

            # An input is refused behind those that are answered.
            with pytest.raises(ContextLengthExceeded):
                await predictor.predict(PredictCall(acme.id, acme.name, "writer", [*asked, "x" * 600]))
            requests, rows, tokens = _counted(predictor)
            assert (requests, rows, tokens) == (1, 3, 3 * each + engine.written)

            # The caller leaves while the second one is written.
            before, engine._compute = engine.written, stopping
            leaving = asyncio.create_task(predictor.predict(PredictCall(acme.id, acme.name, "writer", asked)))
            await until(lambda: steps == 12)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            done = engine.written - before
            assert _counted(predictor) == (2, rows + 2, tokens + 2 * each + done)
            going_on.set()
            await until(lambda: engine.unfinished == 0)

            # What waits and what fails by the server's fault costs nothing.
            counted, endless = _counted(predictor), SamplingParams(400, temperature=0.0, logit_bias={2: -1e9})
            going_on.clear()
            held, waiting = [
                await predictor.write(WriteCall(acme.id, "writer", WriteRequest(chat("Hi"), endless))) for _ in range(2)
            ]
            waiting.close()
            assert _counted(predictor) == counted

            def broken(stretches: Any) -> Any:
                raise RuntimeError("of the device")

            engine._compute = broken
            going_on.set()
            with pytest.raises(RuntimeError):
                _ = [piece async for piece in held.pieces()]
            held.close()
            with pytest.raises(RuntimeError):
                await predictor.predict(PredictCall(acme.id, acme.name, "writer", asked))
            assert _counted(predictor) == counted

    asyncio.run(asyncio.wait_for(run(), 90))
