"""Arms that need a process of their own: their memory and threads are theirs alone, and two of them can take turns.

`python -m tests.benchmarks.serving_arms graft|pipelines` reads its options as a line of JSON, says with another that it
is ready, then answers every line (how many seconds to run) with what it measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.serving_load import resident_bytes


class Arm:
    """The process from outside."""

    def __init__(self, process: subprocess.Popen[str], log: Path, options: dict[str, Any]) -> None:
        self._process = process
        self._log = log
        self.ready = self._ask(json.dumps(options))

    def run(self, seconds: float) -> dict[str, Any]:
        """What it measured in so many seconds."""
        return self._ask(str(seconds))

    def _ask(self, question: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("an arm ended: " + self._log.read_text()[-2_000:])
        found: dict[str, Any] = json.loads(line)
        return found


@contextlib.contextmanager
def arm(name: str, *, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[Arm]:
    """Start an arm, wait until it is ready, end it."""
    with tempfile.NamedTemporaryFile(prefix="graft-arm-", suffix=".log") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.serving_arms", name],
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            yield Arm(process, Path(log.name), options)
        finally:
            process.kill()
            process.wait()


def _graft(home: str, count: int, texts: list[str]) -> None:
    """The engine called in process: 64 callers, one text a request."""
    from tests.benchmarks.serving_load import closed_loop, each
    from tests.benchmarks.serving_world import asking, open_world, predicting

    async def serve() -> None:
        world = open_world(Path(home), count)
        async with predicting(world) as predictor:
            ask = asking(predictor, world, range(count), texts)
            await each(ask, range(count))
            _say(**_resident(), models=count)
            while seconds := await asyncio.to_thread(sys.stdin.readline):
                run = await closed_loop(ask, seconds=float(seconds))
                _say(rate=run.rate, p50_ms=run.percentile(50), p99_ms=run.percentile(99), **_resident())

    asyncio.run(serve())


def _pipelines(count: int, texts: list[str], labels: int) -> None:
    """One Hugging Face pipeline per customer, called one after the other."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    from models.backbones import precision, registry
    from models.settings import Settings

    folder = registry.folder_of(registry.find(Settings(), "minilm"))
    device = precision.resolve_device(Settings().device)
    with tempfile.TemporaryDirectory(prefix="graft-pipelines-") as scratch:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        fresh = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels)
        for number in range(count):  # files of its own for each, as after a fine-tune: pages of one file are shared
            fresh.save_pretrained(f"{scratch}/{number}")
            tokenizer.save_pretrained(f"{scratch}/{number}")
        del fresh
        made, resident = [], []
        for number in range(count):
            made.append(pipeline("text-classification", model=f"{scratch}/{number}", device=device))
            made[-1](texts[0])
            resident.append(_resident()["resident_bytes"])
        _say(**_resident(), models=count, resident_by_model=resident)
        while seconds := sys.stdin.readline():
            began, latencies = time.perf_counter(), []
            while time.perf_counter() < began + float(seconds):
                asked_at = time.perf_counter()
                made[len(latencies) % count](texts[len(latencies) % len(texts)])
                latencies.append(time.perf_counter() - asked_at)
            _say(rate=len(latencies) / (time.perf_counter() - began), **_resident())


def _resident() -> dict[str, int]:
    return {"resident_bytes": resident_bytes()}


def _say(**found: Any) -> None:
    _answers.write(json.dumps(found) + "\n")
    _answers.flush()


if __name__ == "__main__":
    # Answers go where standard output went; whatever else prints goes to the log.
    _answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    {"graft": _graft, "pipelines": _pipelines}[sys.argv[1]](**json.loads(sys.stdin.readline()))
