"""The engine on a tiny base: the same answers as a plain loop, whoever else is in the step."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from models.artifacts.prompt import Prompt
from models.backbones.precision import has_bf16
from models.backbones.writing import DecoderBackbone, load_decoder
from models.serving.errors import ContextLengthExceeded, InvalidInput, PassFailed, QueueFull
from models.serving.generation.adapters import WritingAdapter
from models.serving.generation.blocks import BLOCK_TOKENS
from models.serving.generation.runner import GenerationRunner
from models.serving.kernels import batched_products
from models.serving.writing import SamplingParams, WriteRequest
from tests.device import DEVICE
from tests.models.serving.conftest import until
from tests.models.serving.generation.conftest import (
    GREEDY,
    SlowSchema,
    adapter,
    answer,
    chat,
    collect,
    low_rank,
    own_block,
    plain_greedy,
    running,
)

PROMPTS = ["Where is my card?", "Hi", "I was charged twice for one payment, and nobody answers my mails about it. " * 2]
Play = Callable[[Any], Any]


def test_greedy_answers_are_those_of_a_plain_loop(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            base = runner.plain_adapter()
            texts = await asyncio.gather(*(answer(runner, base, chat(prompt)) for prompt in PROMPTS))
            for prompt, text in zip(PROMPTS, texts, strict=True):
                tokens = tiny.encode_chat(chat(prompt), add_generation_prompt=True)
                assert text == tiny.decode(plain_greedy(tiny, tokens, 12))

    play(run())


def test_every_customer_gets_the_answers_of_its_own_version(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        pairs = {f"customer-{at}": low_rank(tiny, at, rank=2 + 2 * (at % 2)) for at in range(5)}
        async with running(tiny) as runner:
            adapters = {name: adapter(runner, name, part) for name, part in pairs.items()}
            adapters["blocks"] = adapter(runner, "blocks", own_block(tiny, 9))
            adapters["base"] = runner.plain_adapter()
            asked = [(name, prompt) for name in adapters for prompt in PROMPTS]
            together = await asyncio.gather(
                *(answer(runner, adapters[name], chat(prompt), customer=name) for name, prompt in asked)
            )
            alone = [await answer(runner, adapters[name], chat(prompt), customer=name) for name, prompt in asked]
            assert together == alone
            assert len(set(together)) > len(adapters)
            for name, prompt in asked[: 5 * len(PROMPTS)]:
                tokens = tiny.encode_chat(chat(prompt), add_generation_prompt=True)
                expected = tiny.decode(plain_greedy(tiny, tokens, 12, pairs[name]))
                assert together[asked.index((name, prompt))] == expected

    play(run())


@pytest.mark.skipif(
    DEVICE != "cpu" or not batched_products.available(), reason="elsewhere equal to rounding, not bit by bit"
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neighbours_change_not_a_bit(tiny: DecoderBackbone, play: Play, precision: str) -> None:
    if precision == "bf16" and not has_bf16(tiny.device):
        pytest.skip("oneDNN's bf16 layers need the processor's")
    backbone = load_decoder(tiny.entry, device="cpu", precision=precision, threads=1)
    params = SamplingParams(max_tokens=12, temperature=0.0, logprobs=0, logit_bias={2: -100.0})
    prompts = ["Hi", "x" * 75, "Where is my card? " * 11]

    async def scores(runner: GenerationRunner, version: WritingAdapter, prompt: str, customer: str) -> list[float]:
        writing = await runner.write(customer, version, WriteRequest(chat(prompt), params))
        return [token.logprob for piece in await collect(writing) for token in piece.logprobs]

    async def run() -> None:
        parts = [low_rank(backbone, seed, rank=4 + seed % 2 * 4) for seed in range(4)]
        async with running(backbone) as runner:
            versions = {f"c{at}": adapter(runner, f"c{at}", part) for at, part in enumerate(parts)}
            asked = [(name, prompt) for name in versions for prompt in prompts for _ in range(2)]
            together = await asyncio.gather(*(scores(runner, versions[name], text, name) for name, text in asked))
        for name, prompt in asked[:: len(prompts) * 2 - 2]:
            async with running(backbone) as runner:  # nothing is computed beforehand
                version = adapter(runner, name, parts[int(name[1:])])
                alone = await scores(runner, version, prompt, name)
                assert alone == together[asked.index((name, prompt))]

    play(run())


def test_examples_stand_in_front_and_are_computed_once(tiny: DecoderBackbone, play: Play) -> None:
    example = ({"role": "user", "content": "2 + 2 " * 20}, {"role": "assistant", "content": "4"})
    prompt = Prompt("few-shot", "Answer shortly.", (example,))

    async def run() -> None:
        async with running(tiny) as runner:
            few_shot = adapter(runner, "acme", prompt=prompt)
            spelt = [{"role": "system", "content": "Answer shortly."}, *example, *chat("3 + 3")]
            expected = await answer(runner, runner.plain_adapter(), spelt)
            first = await runner.write("acme", few_shot, WriteRequest(chat("3 + 3"), GREEDY))
            assert "".join(piece.text for piece in await collect(first)) == expected
            second = await runner.write("acme", few_shot, WriteRequest(chat("4 + 4"), GREEDY))
            await collect(second)
            shared = len(tiny.encode_chat([spelt[0], *example], add_generation_prompt=False))
            assert first.cached_tokens == 0
            assert shared - BLOCK_TOKENS < second.cached_tokens <= shared + BLOCK_TOKENS
            assert second.prompt_tokens > shared

    play(run())


def test_who_leaves_frees_its_blocks_at_the_next_step(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            params = SamplingParams(max_tokens=400, temperature=0.0, logit_bias={2: -1e9})  # it does not end by itself
            writing = await runner.write("acme", runner.plain_adapter(), WriteRequest(chat("Hi"), params, choices=3))
            assert await writing.next() is not None
            writing.close()
            await until(lambda: runner.engine.unfinished == 0)
            pool = runner.engine.scheduler.pool
            assert (runner.engine.scheduler.idle, pool.free) == (True, pool.count)
            assert writing.completion_tokens < 3 * 400

    play(run())


def test_a_customers_prefixes_are_dropped_while_nothing_is_written(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            await answer(runner, runner.plain_adapter(), chat("Where is my card? " * 4))
            pool = runner.engine.scheduler.pool
            await until(lambda: runner.engine.unfinished == 0 and pool.kept > 0)
            runner.forget_customer("acme")
            await until(lambda: pool.kept == 0 and not runner.engine._forgotten)
            assert await answer(runner, runner.plain_adapter(), chat("Hi"))

    play(run())


def test_seeds_repeat_and_choices_differ(tiny: DecoderBackbone, play: Play) -> None:
    params = SamplingParams(max_tokens=10, temperature=1.0, seed=11)

    async def run() -> None:
        async with running(tiny) as runner:
            texts = []
            for _ in range(2):
                writing = await runner.write("acme", runner.plain_adapter(), WriteRequest("Once", params, choices=2))
                pieces = await collect(writing)
                texts.append(["".join(piece.text for piece in pieces if piece.choice == at) for at in (0, 1)])
                assert sorted(piece.choice for piece in pieces if piece.finish_reason) == [0, 1]
                assert writing.completion_tokens <= 20
            assert texts[0] == texts[1]
            assert texts[0][0] != texts[0][1]

    play(run())


def test_answers_keep_to_a_schema(tiny: DecoderBackbone, play: Play) -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["card", "refund"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["kind", "count"],
        "additionalProperties": False,
    }

    async def run() -> None:
        async with running(tiny) as runner:
            params = SamplingParams(max_tokens=60, temperature=1.5, seed=1)
            writing = await runner.write(
                "acme", runner.plain_adapter(), WriteRequest(chat("?"), params, choices=4, schema=schema)
            )
            pieces = await collect(writing)
            for at in range(4):
                text = "".join(piece.text for piece in pieces if piece.choice == at)
                jsonschema.validate(json.loads(text), schema)

    play(run())


def test_one_customers_schemas_stop_nobody_else(tiny: DecoderBackbone, play: Play) -> None:
    going_on, asked = threading.Event(), 40  # more than the event loop has default threads
    schemas = [SlowSchema(going_on) for _ in range(asked)]

    async def run() -> None:
        async with running(tiny, generation_queue_per_customer=asked) as runner:
            base = runner.plain_adapter()

            def ask(schema: SlowSchema) -> asyncio.Task[str]:
                return asyncio.create_task(answer(runner, base, chat("Hi"), schema=schema))

            leaving, *waiting = [ask(schema) for schema in schemas]
            try:
                await until(lambda: any(schema.begun for schema in schemas))
                with pytest.raises(QueueFull):  # before anything is computed for it
                    await runner.write("acme", base, WriteRequest(chat("Hi")))
                leaving.cancel()  # its thread goes on
                async with asyncio.timeout(20):
                    assert await asyncio.to_thread(lambda: True)  # as keys and aliases are looked up
                    assert await answer(runner, base, chat("Hi"), customer="zeta")
                assert sum(schema.begun for schema in schemas) == 1  # one of a customer at a time
            finally:
                going_on.set()
            assert all(text.startswith("{") for text in await asyncio.gather(*waiting))

    play(run())


def test_a_schema_is_compiled_once_for_all_choices(tiny: DecoderBackbone, play: Play) -> None:
    going_on = threading.Event()
    going_on.set()
    schema = SlowSchema(going_on)

    async def run() -> None:
        async with running(tiny) as runner:
            request = WriteRequest(chat("Hi"), GREEDY, choices=4, schema=schema)
            assert await collect(await runner.write("acme", runner.plain_adapter(), request))
            assert schema.begun == 1

    play(run())


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "cannot be held to this schema"),
        ({"enum": ["x" * 100 + str(at) for at in range(400)]}, "32,768 are accepted"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused_before_an_answer(
    tiny: DecoderBackbone, play: Play, schema: Any, reason: str
) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            with pytest.raises(InvalidInput, match=reason) as caught:
                await runner.write("acme", runner.plain_adapter(), WriteRequest(chat("Hi"), schema=schema))
            assert caught.value.param == "response_format"
            assert runner.engine.unfinished == 0

    play(run())


def test_stop_strings_and_probabilities(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            base = runner.plain_adapter()
            whole = await answer(runner, base, chat("Hi"))
            stop = whole[4:6]
            cut = await answer(runner, base, chat("Hi"), SamplingParams(12, temperature=0.0, stop=(stop,)))
            assert cut == whole[: whole.index(stop)]
            writing = await runner.write(
                "acme", base, WriteRequest(chat("Hi"), SamplingParams(5, temperature=0.0, logprobs=2))
            )
            tokens = [token for piece in await collect(writing) for token in piece.logprobs]
            assert len(tokens) == 5
            for token in tokens:
                assert len(token.top) == 2
                assert token.top[0].logprob == token.logprob >= token.top[1].logprob

    play(run())


def test_a_conversation_that_is_too_long_is_refused(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            with pytest.raises(ContextLengthExceeded, match="maximum context length is 512 tokens"):
                await answer(runner, runner.plain_adapter(), chat("x" * 600))
            with pytest.raises(ContextLengthExceeded):
                await answer(runner, runner.plain_adapter(), chat("x"), SamplingParams(max_tokens=512))

    play(run())


def test_a_fault_in_a_step_ends_only_what_it_is_about(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny) as runner:
            good, bad = adapter(runner, "good", low_rank(tiny, 1)), adapter(runner, "bad", low_rank(tiny, 2))
            broken = bad.lora
            assert broken is not None
            expected = await answer(runner, good, chat("Hi"), customer="good")
            compute = runner.engine._compute

            def failing(stretches: Any) -> Any:
                if any(stretch.adapter is bad for stretch in stretches):
                    raise SystemExit("from inside of a step")
                return compute(stretches)

            runner.engine._compute = failing
            results = await asyncio.gather(
                answer(runner, good, chat("Hi"), customer="good"),
                answer(runner, bad, chat("Hi"), customer="bad"),
                return_exceptions=True,
            )
            assert results[0] == expected
            assert isinstance(results[1], PassFailed)
            runner.engine._compute = compute
            assert runner.alive
            assert await answer(runner, bad, chat("Hi"), customer="bad")

    play(run())


def test_a_customers_queue_is_bounded(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny, generation_queue_per_customer=2) as runner:
            params = SamplingParams(max_tokens=300, temperature=0.0, logit_bias={2: -1e9})
            base = runner.plain_adapter()
            held = [await runner.write("acme", base, WriteRequest(chat("Hi"), params)) for _ in range(2)]
            with pytest.raises(QueueFull) as caught:
                await runner.write("acme", base, WriteRequest(chat("Hi"), params))
            assert caught.value.retry_after_s >= 1
            assert await answer(runner, base, chat("Hi"), customer="zeta")
            for writing in held:
                writing.close()

    play(run())


def test_what_was_read_and_written_is_counted(tiny: DecoderBackbone, play: Play) -> None:
    endless = SamplingParams(max_tokens=300, temperature=0.0, logit_bias={2: -1e9})

    async def run() -> None:
        async with running(tiny, generation_sequences=1) as runner:
            begun = await runner.write("acme", runner.plain_adapter(), WriteRequest(chat("Hi"), endless))
            await begun.next()
            waiting = await runner.write("acme", runner.plain_adapter(), WriteRequest(chat("Hi"), GREEDY))
            assert waiting.prompt_tokens == begun.prompt_tokens == begun.read_tokens
            assert waiting.read_tokens == 0
            for writing in (begun, waiting):
                writing.close()
            await until(lambda: runner.engine.unfinished == 0)
            assert (waiting.read_tokens, waiting.completion_tokens, waiting.failed) == (0, 0, False)

            def broken(stretches: Any) -> Any:
                raise RuntimeError("of the device")

            runner.engine._compute = broken
            failing = await runner.write("acme", runner.plain_adapter(), WriteRequest(chat("Hi"), GREEDY))
            with pytest.raises(RuntimeError):
                await collect(failing)
            assert failing.failed

    play(run())


def test_inputs_of_predict_are_answered_in_order(tiny: DecoderBackbone, play: Play) -> None:
    async def run() -> None:
        async with running(tiny, generation_sequences=2, generation_max_tokens=8) as runner:
            base = runner.plain_adapter()
            written = await runner.submit("acme", base, PROMPTS)
            params = SamplingParams(max_tokens=8, temperature=0.0)
            assert written.outputs == [await answer(runner, base, chat(prompt), params) for prompt in PROMPTS]
            assert written.tokens > sum(map(len, PROMPTS))

    play(run())
