"""The engine on the real base: the tokens of a plain loop, whatever else is written at the same time."""

from __future__ import annotations

import asyncio
import json

import jsonschema
import pytest

from models.backbones import registry
from models.backbones.errors import BaseModelUnreachable
from models.backbones.writing import DecoderBackbone, load_decoder
from models.serving.writing import SamplingParams
from models.settings import Settings
from tests.models.serving.generation.conftest import adapter, answer, chat, low_rank, plain_greedy, running

pytestmark = pytest.mark.slow

GREEDY = SamplingParams(max_tokens=10, temperature=0.0)
QUESTIONS = ["What is the capital of France?", "Write one sentence about the sea."]
PLACE = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "in_europe": {"type": "boolean"}},
    "required": ["city", "in_europe"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> DecoderBackbone:
    entry = registry.find(Settings(data_dir=tmp_path_factory.mktemp("smollm2")), "smollm2")
    try:
        return load_decoder(entry, device="cpu", precision="fp32", threads=1)
    except BaseModelUnreachable as error:
        pytest.skip(str(error))


def test_many_at_a_time_are_each_like_alone(smollm2: DecoderBackbone) -> None:
    async def run() -> None:
        parts = {name: low_rank(smollm2, seed, rank=8) for seed, name in enumerate(("acme", "zeta"))}
        async with running(smollm2, generation_memory_bytes=64 * 2**20) as runner:
            versions = {name: adapter(runner, name, part) for name, part in parts.items()}
            versions["base"] = runner.plain_adapter()
            asked = [(name, question) for name in versions for question in QUESTIONS]
            texts = await asyncio.gather(
                *(answer(runner, versions[name], chat(question), GREEDY, name) for name, question in asked)
            )
            assert "Paris" in texts[asked.index(("base", QUESTIONS[0]))]
            for (name, question), text in zip(asked, texts, strict=True):
                tokens = smollm2.encode_chat(chat(question), add_generation_prompt=True)
                assert text == smollm2.decode(plain_greedy(smollm2, tokens, 10, parts.get(name)))
            form = await answer(
                runner,
                versions["base"],
                chat("Berlin as JSON, please."),
                SamplingParams(max_tokens=40, temperature=0.0),
                schema=PLACE,
            )
            jsonschema.validate(json.loads(form), PLACE)

    asyncio.run(asyncio.wait_for(run(), 600))
