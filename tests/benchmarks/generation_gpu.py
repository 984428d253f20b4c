"""Models that write on a GPU, in at most nine minutes: `make bench-gpu`.

    python -m tests.benchmarks.generation_gpu [--device cuda] [--quick] [--budget 540]

Tokens a second of 64 answers at a time, all of one adapter, of 16 and of 64; the time to the first token, alone and
while others are written; tokens a second of one low-rank job. Nothing is compared: these are first figures of a
machine. A measure that the budget leaves no time for is named and left out. `--quick` takes a tiny base with random
weights and few tokens: `--device cpu --quick` shows on any machine that all of it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import torch

from deploy.cli import writing_sample
from models.backbones import registry
from models.backbones.registry import BackboneEntry
from models.backbones.writing import DecoderBackbone, load_decoder
from models.datasets.limits import Limits
from models.datasets.validation import inspect
from models.learning import training
from models.learning.contract.events import Finished
from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.serving.generation.adapters import WritingAdapter
from models.serving.generation.runner import GenerationRunner
from models.settings import Settings
from tests.benchmarks import results
from tests.benchmarks.generation_serving import adapters, listen
from tests.models.backbones import decoder_checkpoints

SEQUENCES = 64
Measure = Callable[[], Awaitable[dict[str, Any]]]


async def throughput(runner: GenerationRunner, versions: list[WritingAdapter], tokens: int) -> dict[str, Any]:
    """Tokens a second of 64 answers at a time, prompts included; and without them, from the last first token on."""
    began_at = time.perf_counter()
    found = await asyncio.gather(
        *(
            listen(runner, versions[at % len(versions)], f"customer-{at}", f"Write about number {at}.", tokens)
            for at in range(SEQUENCES)
        )
    )
    ended_at = time.perf_counter()
    all_begun_at = max(moments[1] for moments in found)
    later = sum(moment > all_begun_at for moments in found for moment in moments)
    return {
        "tokens/s": SEQUENCES * tokens / (ended_at - began_at),
        "tokens/s without prompts": later / max(ended_at - all_begun_at, 1e-9),
        "sequences": SEQUENCES,
        "adapters": len(versions),
    }


async def first_token(runner: GenerationRunner, versions: list[WritingAdapter], tokens: int) -> dict[str, Any]:
    """Median seconds to the first token of one request with an adapter, alone and while 64 answers are written."""

    async def median(tries: int) -> float:
        spent = []
        for at in range(tries):
            moments = await listen(runner, versions[0], "asker", f"A question of its own, number {at}.", 2)
            spent.append(moments[1] - moments[0])
        return statistics.median(spent)

    alone = await median(8)
    writers = [
        asyncio.create_task(listen(runner, versions[at % len(versions)], f"customer-{at}", f"Number {at}.", 4 * tokens))
        for at in range(SEQUENCES - 1)
    ]
    while runner.engine.waiting:
        await asyncio.sleep(0.01)
    beside = await median(4)
    still = sum(not writer.done() for writer in writers)
    for writer in writers:
        writer.cancel()
    await asyncio.gather(*writers, return_exceptions=True)
    while runner.engine.unfinished:
        await asyncio.sleep(0.01)
    return {"alone s": alone, "beside others s": beside, "others at the end": still}


def one_job(backbone: DecoderBackbone, folder: Path, rows: int) -> dict[str, Any]:
    """Tokens a second of one low-rank job of one epoch, its held-out measurements included."""
    path = folder / "facts.jsonl"
    writing_sample.write(path, writing_sample.chats(rows))
    found = inspect(path, filename=path.name, task="text-generation", limits=Limits())
    request = TrainRequest(
        DatasetSource(path, found.format, found.columns),
        found.task,
        folder / "job",
        backbone.entry.name,
        strategy="lora",
        hyperparameters=Hyperparameters(n_epochs=1, lora_rank=8, batch_size=8),
    )
    began_at = time.perf_counter()
    report: dict[str, Any] = {}
    for event in training.train(request, backbone, stop=lambda: False):
        if isinstance(event, Finished):
            report = event.report
    facts = {name: report[name] for name in ("tokens_per_second", "steps")}
    return {**facts, "rows": rows, "whole job s": time.perf_counter() - began_at}


async def measure(
    options: argparse.Namespace, entry: BackboneEntry, settings: Settings, folder: Path
) -> dict[str, Any]:
    """Measure all that the budget allows; print each figure as it is known."""
    began_at = time.monotonic()
    backbone = load_decoder(entry, device=options.device, precision=settings.precision, threads=settings.threads)
    runner = GenerationRunner(backbone, settings)
    versions = adapters(runner, SEQUENCES)
    tokens = 8 if options.quick else 128

    async def job() -> dict[str, Any]:
        return await asyncio.to_thread(one_job, backbone, folder, 24 if options.quick else 400)

    measures: dict[str, Measure] = {
        "warm": lambda: throughput(runner, versions, 4),
        "one adapter": lambda: throughput(runner, versions[:1], tokens),
        "16 adapters": lambda: throughput(runner, versions[:16], tokens),
        "64 adapters": lambda: throughput(runner, versions, tokens),
        "first token": lambda: first_token(runner, versions, tokens),
        "one low-rank job": job,
    }
    found: dict[str, Any] = {
        "machine": results.machine(),
        "base": entry.name,
        "device": str(backbone.device),
        "precision": str(backbone.dtype),
        "load before": os.getloadavg(),
        "loading s": time.monotonic() - began_at,
    }
    longest = 0.0
    for name, one in measures.items():
        at = time.monotonic()
        if at - began_at + longest > options.budget:  # the next one may take as long as the longest so far
            found.setdefault("left out", []).append(name)
            print(f"{name}: left out, the budget of {options.budget:.0f} s is spent", flush=True)
            continue
        found[name] = await one()
        longest = max(longest, time.monotonic() - at)
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    if backbone.device.type == "cuda":
        found["peak GPU bytes"] = torch.cuda.max_memory_allocated(backbone.device)
    await runner.close()
    return found


def main() -> None:
    """Measure, and leave the figures in a file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="a tiny base with random weights, few tokens")
    parser.add_argument("--budget", type=float, default=500.0, help="seconds after which nothing new is begun")
    parser.add_argument("--data", type=Path, default=Path("graft-data"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        settings = Settings(
            data_dir=options.data,
            device=options.device,
            generation_sequences=2 * SEQUENCES,
            generation_memory_bytes=2**26 if options.quick else 4 * 2**30,
        )
        entry = decoder_checkpoints.write(folder / "base") if options.quick else registry.find(settings, "smollm2")
        found = asyncio.run(measure(options, entry, settings, folder))
    if options.quick:
        return
    results.FOLDER.mkdir(exist_ok=True)
    path = results.path_of("generation-gpu")
    path.write_text(json.dumps(found, indent=1, default=str) + "\n")
    print(f"{path} · {json.dumps(found['machine'])} · {found['precision']}")


if __name__ == "__main__":
    main()
