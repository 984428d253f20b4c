"""The end of row 6: 16 concurrent customers on Graft's own engine beside the same at a vLLM server.

    python -m tests.benchmarks.generation_upstream --vllm-url http://127.0.0.1:8100 [--vllm-key …] [--tokens 48]

The server runs on this machine with SmolLM2 in the same number format, on one thread as the engine does, and loads
adapters at run time (deploy/decisions/0040 has its command). Arms run in turn and wait for each other: the engine, the
server asked directly, the server behind Graft's runner. All get the same prompts' tokens and the same random adapters;
answers are greedy and as long as was asked for. Directly, what Graft adds to a request is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import safetensors.torch
from pydantic import SecretStr

from models.artifacts import parts, peft_adapter
from models.artifacts.manifest import Manifest
from models.backbones import registry
from models.serving.generation.runner import GenerationRunner
from models.serving.shared_compute import SharedCompute
from models.serving.upstream.adapters import UpstreamAdapter
from models.serving.upstream.client import VllmClient
from models.serving.upstream.runner import UpstreamRunner
from models.serving.upstream.writing import completion_body
from models.serving.writing import SamplingParams, WriteRequest
from models.settings import Settings
from tests.benchmarks import results
from tests.benchmarks.generation_serving import CUSTOMERS, NO_END, PROMPT, adapters, in_turn, random_low_rank, together

BASE = "smollm2"


def upstream_adapters(engine: GenerationRunner, upstream: UpstreamRunner) -> list[UpstreamAdapter]:
    """The versions of `generation_serving.adapters`, as PEFT folders."""
    made = []
    for seed in range(CUSTOMERS):
        tensors = parts.pack((random_low_rank(engine, seed),))
        weights = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        manifest = Manifest("text-generation", "lora", (), (), BASE, engine.backbone.revision)
        found = peft_adapter.convert(manifest, weights, base=BASE)
        assert found is not None
        customer = f"customer-{seed}"
        made.append(
            UpstreamAdapter(
                "text-generation", f"v{seed}", customer_id=customer, files=found.files, loaded=upstream.loaded
            )
        )
    return made


async def directly(client: VllmClient, names: list[str], prompts: list[list[int]], tokens: int) -> float:
    """Tokens a second of one answer each, all at a time, as any client of vLLM's would ask for them."""

    async def read(name: str, prompt: list[int]) -> int:
        params = SamplingParams(max_tokens=tokens, temperature=0.0)
        body = completion_body(WriteRequest("", params), model=name, tokens=prompt, most=tokens, ends=(), salt=name)
        answer = await client.complete({**body, "ignore_eos": True})
        events = [line async for line in answer.aiter_lines() if line.startswith("data: {")]
        await answer.aclose()
        return sum(len(choice["token_ids"]) for event in events for choice in json.loads(event[6:])["choices"])

    began_at = time.perf_counter()
    counts = await asyncio.gather(*(read(name, prompt) for name, prompt in zip(names, prompts, strict=True)))
    assert counts == [tokens] * len(names), counts
    return sum(counts) / (time.perf_counter() - began_at)


async def alike(engine: GenerationRunner, ours: list[Any], upstream: UpstreamRunner, theirs: list[Any]) -> int:
    """How many customers get the same first 16 tokens from both."""

    async def text(runner: Any, at: int, adapter: Any) -> str:
        params = SamplingParams(max_tokens=16, temperature=0.0, logit_bias=NO_END)
        request = WriteRequest([{"role": "user", "content": f"{PROMPT} {at}"}], params)
        writing = await runner.write(f"customer-{at}", adapter, request)
        pieces = []
        while (piece := await writing.next()) is not None:
            pieces.append(piece.text)
        return "".join(pieces)

    both = [
        await asyncio.gather(*(text(runner, at, adapter) for at, adapter in enumerate(versions)))
        for runner, versions in ((engine, ours), (upstream, theirs))
    ]
    return sum(mine == other for mine, other in zip(*both, strict=True))


async def measure(settings: Settings, repeats: int, tokens: int) -> dict[str, Any]:
    """Measure the arms on a freshly opened base."""
    entry = registry.find(settings, BASE)
    engine = GenerationRunner.open(entry, SharedCompute(settings))
    upstream, client = UpstreamRunner(entry, settings), VllmClient(settings)
    ours, theirs = adapters(engine, CUSTOMERS), upstream_adapters(engine, upstream)
    asked = [[{"role": "user", "content": f"{PROMPT} {at}"}] for at in range(CUSTOMERS)]
    prompts = [engine.backbone.encode_chat(one, add_generation_prompt=True) for one in asked]
    try:
        load = os.getloadavg()
        same = await alike(engine, ours, upstream, theirs)
        names = [upstream.loaded.name_of(adapter) for adapter in theirs]
        rates = await in_turn(
            {
                "engine": lambda: together(engine, ours, tokens),
                "vLLM": lambda: directly(client, names, prompts, tokens),
                "vLLM behind Graft": lambda: together(upstream, theirs, tokens),
            },
            repeats,
        )
    finally:
        for adapter in theirs:
            adapter.let_go()
        await client.close()
        await upstream.close()
        await engine.close()
    return {
        "machine": results.machine(),
        "vllm": httpx.get(f"{settings.generation_upstream}/version", trust_env=False).json().get("version"),
        "precision": str(engine.backbone.dtype),
        "load": [load, os.getloadavg()],
        "repeats": repeats,
        "tokens": tokens,
        "tokens/s": rates,
        "ratio": {name: rates["engine"] / rate for name, rate in rates.items() if name != "engine"},
        "same first 16 tokens": f"{same} of {CUSTOMERS}",
    }


def main() -> None:
    """Measure beside the server that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm-url", required=True, help="without /v1")
    parser.add_argument("--vllm-key")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--data", type=Path, default=Path("graft-data"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as shared:
        settings = Settings(
            data_dir=options.data,
            generation_upstream=options.vllm_url,
            generation_upstream_key=SecretStr(options.vllm_key) if options.vllm_key else None,
            generation_upstream_folder=Path(shared),
        )
        found = asyncio.run(measure(settings, options.repeats, options.tokens))
    results.FOLDER.mkdir(exist_ok=True)
    path = results.path_of("generation-upstream")
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"row 6, vLLM (stated): {json.dumps(found)}\n{path}")


if __name__ == "__main__":
    main()
