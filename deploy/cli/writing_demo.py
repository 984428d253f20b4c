"""`graft demo --generate`: product facts to a shop's own lines, on a base that writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.text import Text

from deploy.cli import console, writing_sample
from deploy.cli.client import Client
from deploy.cli.console import out
from deploy.cli.errors import CommandError
from deploy.cli.progress import follow
from deploy.cli.training import show_job, submit

_TRAINED, _ASKED, _WIDTH = 240, 3, 160
_NAME = "house-style"


def run(client: Client, folder: Path, step: Callable[[str], None]) -> None:
    """Train on a sample, show base and tuned answers side by side, stream one."""
    rows = writing_sample.chats(_TRAINED + _ASKED)
    table = folder / "facts.jsonl"
    writing_sample.write(table, rows[:_TRAINED])
    step(f"POST /v1/fine_tuning/jobs  file=@{table.name} ({_TRAINED} chats)  suffix={_NAME}")
    posted = time.monotonic()

    def servable(job: dict[str, Any]) -> None:
        took = console.duration(time.monotonic() - posted)
        line = f"{job['fine_tuned_model']} answers, {took} after the POST: examples stand in its prompt."
        console.err.print(Text(line, style="bold green"))

    fields = {"suffix": _NAME, "seed": "7", "hyperparameters": json.dumps({"n_epochs": 1})}
    job = follow(client, submit(client, {"file": table}, fields), servable=servable)
    show_job(job)
    if job["status"] != "succeeded":
        raise CommandError(reason=f"The demo's job ended as {job['status']}.")
    step("Held-out facts: what base, examples and the trained model wrote")
    for sample in (job.get("report") or {}).get("samples", [])[:_ASKED]:
        out.print(Text(f"  {sample['asked']}", style="dim"))
        for name in ("base", "few_shot", "tuned", "truth"):
            if name in sample:
                text = " ".join(str(sample[name]).split())
                out.print(Text.assemble((f"    {name:<9} ", "dim"), text[:_WIDTH]))
    step(f"POST /v1/chat/completions  model={_NAME}, streamed")
    for facts, line in rows[_TRAINED:]:
        out.print(Text.assemble((f"  {facts}\n    → ", "dim"), _stream(client, facts), (f"\n      {line}", "dim")))
    step("The same with the official SDK: OpenAI(base_url=…/v1, api_key=…), nothing else changed")


def _stream(client: Client, facts: str) -> str:
    body = {"model": _NAME, "messages": [{"role": "user", "content": facts}], "max_tokens": 60, "temperature": 0}
    pieces: list[str] = []
    for event in client.stream("/v1/chat/completions", {**body, "stream": True}):
        for choice in event.get("choices") or []:
            pieces.append(str((choice.get("delta") or {}).get("content") or ""))
    return "".join(pieces)
