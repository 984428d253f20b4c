"""`graft predict` of models that write: answers appear word by word."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.console import out
from deploy.cli.errors import CommandError

# More than these are asked together, which is several times faster and shows an answer when all are there.
_ONE_BY_ONE = 4
_ROWS_PER_REQUEST = 32


def writes(model: dict[str, Any]) -> bool:
    """Return whether a model's answers are texts; `model` is as the API describes it."""
    return model.get("task") == "text-generation" or bool(model.get("writes"))


def check(name: str, given: Mapping[str, object]) -> None:
    """Raise CommandError for options that are for other models: those of `given` that have a value."""
    foreign = [option for option, value in given.items() if value is not None and value is not False]
    if foreign:
        raise CommandError(reason=f"'{name}' writes: {', '.join(foreign)} is for other models.")


def ask(client: Client, model: dict[str, Any], name: str, texts: Sequence[str], *, as_json: bool) -> None:
    """Print the answer to each text, the likeliest word each time. Raises what the client does."""
    if len(texts) > _ONE_BY_ONE and model["kind"] != "base":
        _ask_together(client, name, texts, as_json=as_json)
        return
    began = time.perf_counter()
    answered = name
    for text in texts:
        body = {"model": name, "messages": [{"role": "user", "content": text}], "temperature": 0, "stream": True}
        if not as_json:
            out.print(Text(text, style="dim"), end="  ", soft_wrap=True)
        pieces: list[str] = []
        for event in client.stream("/v1/chat/completions", body):
            answered = f"{event['model']}@{event['system_fingerprint'].removeprefix('v')}"
            for choice in event["choices"]:
                pieces.append(choice["delta"].get("content") or "")
                if not as_json:
                    out.print(Text(pieces[-1], style="bold"), end="", soft_wrap=True)
        _end(text, "".join(pieces), as_json=as_json)
    if not as_json:
        count = f"{len(texts)} input{'s' if len(texts) > 1 else ''}"
        took = console.duration(time.perf_counter() - began)
        console.err.print(Text(f"{answered} · {count} · {took}", style="dim"))


def _end(asked: str, answer: str, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(console.as_json({"input": asked, "text": answer}) + "\n")
    else:
        out.print()


def _ask_together(client: Client, name: str, texts: Sequence[str], *, as_json: bool) -> None:
    for first in range(0, len(texts), _ROWS_PER_REQUEST):
        batch = texts[first : first + _ROWS_PER_REQUEST]
        answer = client.post(f"/v1/models/{name}/predict", {"inputs": list(batch)}, slow=True)
        for text, prediction in zip(batch, answer["predictions"], strict=True):
            if not as_json:
                out.print(Text.assemble((text, "dim"), "  ", (prediction["text"], "bold")), end="", soft_wrap=True)
            _end(text, prediction["text"], as_json=as_json)
