"""Rows 5 to 8 and 10 of the generation benchmark: what serving models that write claims, on SmolLM2-135M.

    python -m tests.benchmarks.generation_serving [--rows 5,6] [--repeats 3] [--tokens 48]

Arms of a row run in turn, in one process, on one compute thread each; figures are medians over the repeats, and a row's
claim is a ratio of arms. Adapters are random: rank 8 on all linear layers. The peers are transformers' `generate` with
PEFT's adapters, switched one after another, and mixed in one batch by `adapter_names`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from models.artifacts.parts import LowRankWeights
from models.backbones import registry
from models.backbones.decoder import LINEAR_LAYERS
from models.serving.adapters.low_rank import gather_lora
from models.serving.encoders.runner import EncoderRunner
from models.serving.generation.adapters import LORA_MODULES, WritingAdapter
from models.serving.generation.runner import GenerationRunner
from models.serving.shared_compute import SharedCompute
from models.serving.writing import SamplingParams, WriteRequest
from models.settings import Settings
from tests.benchmarks import results

CUSTOMERS = 16
RANK = 8
PROMPT = "Write one sentence about a small restaurant by the river that serves Italian food."
NO_END = {2: -100.0}  # answers are as long as was asked for
GOALS = {"5": ">= 0.9", "6": ">= 6 and >= 2", "7": ">= 5", "8": "<= 2.5", "10": "<= 2"}


def adapters(runner: GenerationRunner, count: int) -> list[WritingAdapter]:
    """Versions of as many customers, with random low-rank matrices."""
    made = []
    for seed in range(count):
        device = runner.backbone.device  # as `generation.assembly` has them
        dtype = torch.float32 if device.type == "cpu" else runner.backbone.dtype
        lora = gather_lora(random_low_rank(runner, seed), LORA_MODULES, device=device, dtype=dtype)
        made.append(WritingAdapter("text-generation", f"v{seed}", customer_id=f"customer-{seed}", lora=lora))
    return made


def random_low_rank(runner: GenerationRunner, seed: int) -> LowRankWeights:
    """Matrices of rank 8 on all linear layers, small enough for answers to stay text."""
    random = torch.Generator().manual_seed(seed)
    pairs = {}
    for block, layer in enumerate(runner.backbone.network.blocks):
        for name in LINEAR_LAYERS:
            height, width = layer.get_submodule(name).weight.shape
            down = torch.randn(RANK, width, generator=random) / width**0.5
            pairs[block, name] = down, torch.randn(height, RANK, generator=random) * 0.005
    return LowRankWeights(pairs)


async def listen(
    runner: GenerationRunner, adapter: WritingAdapter, customer: str, text: str, tokens: int, system: str = ""
) -> list[float]:
    """Write an answer; return when each of its pieces came, the first number being when it was asked for."""
    messages = [{"role": "system", "content": system}] if system else []
    params = SamplingParams(max_tokens=tokens, temperature=0.0, logit_bias=NO_END)
    moments = [time.perf_counter()]
    request = WriteRequest([*messages, {"role": "user", "content": text}], params)
    with contextlib.closing(await runner.write(customer, adapter, request)) as writing:
        while await writing.next() is not None:
            moments.append(time.perf_counter())
    return moments


async def together(runner: GenerationRunner, versions: list[WritingAdapter], tokens: int) -> float:
    """Tokens a second of one answer each, all at a time, their prompts included."""
    began_at = time.perf_counter()
    await asyncio.gather(
        *(listen(runner, version, f"customer-{at}", f"{PROMPT} {at}", tokens) for at, version in enumerate(versions))
    )
    return len(versions) * tokens / (time.perf_counter() - began_at)


async def in_turn(arms: dict[str, Callable[[], Awaitable[float]]], repeats: int) -> dict[str, float]:
    """Medians of arms that run one after another, over and over; once before for warmth."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats + 1):
        for name, arm in arms.items():
            value = await arm()
            if repeat:
                found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}


async def row_5(runner: GenerationRunner, repeats: int, tokens: int) -> dict[str, Any]:
    """Decode throughput of 16 customers over one customer, 16 sequences each."""
    versions = adapters(runner, CUSTOMERS)
    rates = await in_turn(
        {
            "16 customers": lambda: together(runner, versions, tokens),
            "one customer": lambda: together(runner, [versions[0]] * CUSTOMERS, tokens),
            "the base": lambda: together(runner, [runner.plain_adapter()] * CUSTOMERS, tokens),
        },
        repeats,
    )
    return {"tokens/s": rates, "ratio": rates["16 customers"] / rates["one customer"]}


async def row_6(runner: GenerationRunner, repeats: int, tokens: int) -> dict[str, Any]:
    """16 concurrent customers over transformers with PEFT."""
    versions = adapters(runner, CUSTOMERS)
    peer = Peer(runner)
    rates = await in_turn(
        {
            "engine": lambda: together(runner, versions, tokens),
            "generate, adapters switched": lambda: asyncio.to_thread(peer.switched, tokens),
            "generate, adapter_names": lambda: asyncio.to_thread(peer.mixed, tokens),
        },
        repeats,
    )
    engine = rates["engine"]
    over = {name: engine / rate for name, rate in rates.items() if name != "engine"}
    return {"tokens/s": rates, "ratio": over}


class Peer:
    """transformers' `generate` on the same weights in the same number format, PEFT's adapters of the same sizes."""

    def __init__(self, runner: GenerationRunner) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder = runner.backbone.folder
        self._tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=runner.backbone.dtype).eval()
        names = [name.rpartition(".")[2] for name in LINEAR_LAYERS]
        config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=names, init_lora_weights=False)
        self._model = get_peft_model(base, config, adapter_name="c0")
        for at in range(1, CUSTOMERS):
            self._model.add_adapter(f"c{at}", config)
        self._model.eval()

    def switched(self, tokens: int) -> float:
        """Tokens a second of customers one after another: four of them, each takes as long as any."""
        spent = 0.0
        for at in range(4):
            self._model.set_adapter(f"c{at}")
            spent += self._timed([f"{PROMPT} {at}"], tokens)
        return 4 * tokens / spent

    def mixed(self, tokens: int) -> float:
        """Tokens a second of 16 customers in one batch."""
        names = [f"c{at}" for at in range(CUSTOMERS)]
        spent = self._timed([f"{PROMPT} {at}" for at in range(CUSTOMERS)], tokens, adapter_names=names)
        return CUSTOMERS * tokens / spent

    def _timed(self, prompts: list[str], tokens: int, **options: Any) -> float:
        """Seconds of one call, the prompts included."""
        torch.set_num_threads(1)
        chats = [[{"role": "user", "content": prompt}] for prompt in prompts]
        texts = [
            self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats
        ]
        batch = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        began_at = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, **options)
        return time.perf_counter() - began_at


async def row_7(runner: GenerationRunner, repeats: int, tokens: int) -> dict[str, Any]:
    """Median time to the first token of 16 sequences with one system prompt of 400 tokens, shared or each its own."""
    plain, number = runner.plain_adapter(), iter(range(10**6))

    async def first(*, shared: bool) -> float:
        system = f"{next(number)} " + "Answer in the style of the house, short and friendly. " * 40
        answers = await asyncio.gather(
            *(
                listen(runner, plain, "one" if shared else f"customer-{at}", f"Question {at}", 2, system)
                for at in range(CUSTOMERS)
            )
        )
        return statistics.median(moments[1] - moments[0] for moments in answers)

    spent = await in_turn({"each its own": lambda: first(shared=False), "shared": lambda: first(shared=True)}, repeats)
    return {"seconds": spent, "ratio": spent["each its own"] / spent["shared"]}


async def row_8(runner: GenerationRunner, repeats: int, tokens: int) -> dict[str, Any]:
    """p99 of the gap between tokens of eight streams, quiet and while a stranger sends prompts of 2,000 tokens."""
    plain, number = runner.plain_adapter(), iter(range(10**6))

    async def gaps(*, disturbed: bool) -> float:
        streams = [
            asyncio.create_task(listen(runner, plain, f"customer-{at}", f"{PROMPT} {at}", 2 * tokens))
            for at in range(8)
        ]
        stranger = asyncio.create_task(flood()) if disturbed else None
        answers = await asyncio.gather(*streams)
        if stranger is not None:
            stranger.cancel()
        found = [after - before for moments in answers for before, after in pairwise(moments[2:])]
        return statistics.quantiles(found, n=100)[98]

    async def flood() -> None:
        await asyncio.sleep(0.5)
        while True:
            await listen(runner, plain, "stranger", f"{next(number)} " + "many words of no importance " * 400, 1)

    p99 = await in_turn({"quiet": lambda: gaps(disturbed=False), "a stranger": lambda: gaps(disturbed=True)}, repeats)
    return {"p99 seconds": p99, "ratio": p99["a stranger"] / p99["quiet"]}


async def row_10(runner: GenerationRunner, encoder: EncoderRunner, repeats: int, tokens: int) -> dict[str, Any]:
    """Median time of one text's classification, idle and while 16 answers are being written."""
    versions = adapters(runner, CUSTOMERS)

    async def median(*, saturated: bool) -> float:
        writers = [
            asyncio.create_task(listen(runner, version, f"customer-{at}", PROMPT, 10 * tokens))
            for at, version in enumerate(versions if saturated else [])
        ]
        await asyncio.sleep(1.0)
        spent = []
        for at in range(60):
            began_at = time.perf_counter()
            await encoder.submit("reader", encoder.base_adapter, [f"Where is my card, number {at}?"])
            spent.append(time.perf_counter() - began_at)
        for writer in writers:
            writer.cancel()
        while runner.engine.unfinished and saturated:
            await asyncio.sleep(0.05)
        return statistics.median(spent)

    p50 = await in_turn(
        {"idle": lambda: median(saturated=False), "while 16 are written": lambda: median(saturated=True)}, repeats
    )
    return {"p50 seconds": p50, "ratio": p50["while 16 are written"] / p50["idle"]}


async def measure(rows: list[str], repeats: int, tokens: int, data: Path) -> dict[str, Any]:
    """Measure rows on a freshly opened base; print each as it is known."""
    settings = Settings(data_dir=data)
    shared = SharedCompute(settings)
    runner = GenerationRunner.open(registry.find(settings, "smollm2"), shared)
    found: dict[str, Any] = {
        "machine": results.machine(),
        "precision": str(runner.backbone.dtype),
        "load before": os.getloadavg(),
        "repeats": repeats,
        "tokens": tokens,
    }
    measures: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "5": lambda: row_5(runner, repeats, tokens),
        "6": lambda: row_6(runner, repeats, tokens),
        "7": lambda: row_7(runner, repeats, tokens),
        "8": lambda: row_8(runner, repeats, tokens),
    }
    for row in rows:
        if row in measures:
            found[row] = await measures[row]()
        elif row == "10":
            encoder = EncoderRunner.open(registry.find(settings, "minilm"), shared)
            found[row] = await row_10(runner, encoder, repeats, tokens)
            await encoder.close()
        found[row]["load"] = os.getloadavg()[0]
        print(f"row {row}, goal {GOALS[row]}: {json.dumps(found[row])}", flush=True)
    await runner.close()
    return found


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="5,6,7,8,10")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--data", type=Path, default=Path("graft-data"))
    options = parser.parse_args()
    found = asyncio.run(measure(options.rows.split(","), options.repeats, options.tokens, options.data))
    results.FOLDER.mkdir(exist_ok=True)
    path = results.path_of("generation-serving")
    path.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print(f"{path} · {json.dumps(found['machine'])} · {found['precision']}")


if __name__ == "__main__":
    main()
