"""`python -m tests.benchmarks.serving_profile`: where a request's time goes, as text.

Two profiles of the same traffic (64 callers, one short text a request, 200 customers, in process): the event loop's, by
function, and a pass's, by operator, for a pass of few rows and one of many. Written beside the plots of the benchmark.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import os
import pstats
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import logging

import structlog
import torch

from tests.benchmarks import public_data, results, serving_compute, serving_world
from tests.benchmarks.serving_load import Run, closed_loop

CUSTOMERS = 200
SECONDS = 5.0
PASSES = 50
_MOST = 18


def main() -> None:
    """Measure and write `results/serving-profile.txt`."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    texts = [text for text, _ in public_data.short_texts()[2]]
    sections = [str(results.machine()), *_passes(texts)]
    with tempfile.TemporaryDirectory(prefix="graft-profile-") as scratch:
        sections.append(_event_loop(Path(scratch), texts))
    path = results.FOLDER / "serving-profile.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    sys.stdout.write(path.read_text())


def _passes(texts: list[str]) -> list[str]:
    backbone = serving_compute.load("auto", threads=1)
    told = []
    for rows in (3, 24):
        tokens = backbone.tokenize(texts[:rows])
        adapters = [serving_compute.adapter(backbone, seed, classes=20) for seed in range(rows)]
        for _ in range(10):
            serving_compute.answer(backbone, tokens, adapters)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            for _ in range(PASSES):
                serving_compute.answer(backbone, tokens, adapters)
        events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
        whole = sum(event.self_cpu_time_total for event in events)
        lines = [
            f"{event.self_cpu_time_total / whole:6.1%} {event.self_cpu_time_total / PASSES / 1e3:8.2f} ms "
            f"{event.count // PASSES:5d} calls  {event.key}"
            for event in events[:_MOST]
        ]
        head = f"A pass of {rows} rows ({sum(map(len, tokens))} tokens), {whole / PASSES / 1e3:.2f} ms in operators"
        told.append("\n".join([head, *lines]))
    return told


def _event_loop(scratch: Path, texts: list[str]) -> str:
    serving_world.build(scratch, serving_compute.load("auto"), CUSTOMERS).resources.close()
    profile = cProfile.Profile()

    async def serve() -> Run:
        world = serving_world.open_world(scratch, CUSTOMERS)
        async with serving_world.predicting(world) as predictor:
            ask = serving_world.asking(predictor, world, range(CUSTOMERS), texts)
            await closed_loop(ask, seconds=1.0)
            profile.enable()
            run = await closed_loop(ask, seconds=SECONDS)
            profile.disable()
            return run

    run = asyncio.run(serve())
    out = io.StringIO()
    pstats.Stats(profile, stream=out).strip_dirs().sort_stats("tottime").print_stats(_MOST)
    lines = [line for line in out.getvalue().splitlines() if line.strip()]
    count = len(run.latencies_ms)
    return "\n".join([f"The event loop, {count} requests in {SECONDS:.0f} s, under the profiler", *lines])


if __name__ == "__main__":
    main()
