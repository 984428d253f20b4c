"""Published versions that write, through the predictor: adapters, prefixes, usage, deletion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from models.artifacts.folder import Artifact
from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.records.customers import Customer
from models.records.versions import ModelVersion
from models.services import customers
from models.services.resources import Resources
from models.serving.errors import InvalidInput
from models.serving.predictor import PredictCall, Predictor
from models.serving.writing import WriteRequest
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
