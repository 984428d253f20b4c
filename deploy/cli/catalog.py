"""`graft models`, `versions`, `promote`, `rollback`, `delete-model`, `base-models`, `predict`."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out, show_table
from deploy.cli.errors import CommandError

Model = Annotated[str, typer.Argument(help="A model's name; name@3 pins a version.", metavar="MODEL")]
_ROWS_PER_REQUEST = 256


def models(server: Server = None, key: Key = None) -> None:
    """List your models."""
    with Client(as_customer(server, key)) as client:
        rows = [
            [found.get("name"), found["id"], found.get("version"), found.get("task"), console.when(found["created"])]
            for found in client.each("/v1/models")
            if found.get("kind") != "base"
        ]
    show_table(["name", "id", "live", "task", "created"], rows, empty="No models yet: graft train FILE")


def base_models(server: Server = None, key: Key = None) -> None:
    """List the base models that jobs can start from."""
    with Client(as_customer(server, key)) as client:
        rows = [
            [
                found["id"],
                found.get("modality"),
                _count(found.get("parameters")),
                found.get("width"),
                found.get("licence"),
            ]
            for found in client.each("/v1/models")
            if found.get("kind") == "base"
        ]
    show_table(["name", "modality", "parameters", "width", "licence"], rows, empty="No base models.")


def versions(model: Model, server: Server = None, key: Key = None) -> None:
    """List a model's versions."""
    with Client(as_customer(server, key)) as client:
        rows = [
            [
                found["version"],
                Text("live", style="green") if found.get("live") else "",
                found.get("candidate"),
                _figure(found.get("metrics", {}).get("score")),
                f"{found.get('bytes', 0) / 1024:,.0f} kB",
                found.get("job"),
                console.when(found["created_at"]),
            ]
            for found in client.each(f"/v1/models/{model}/versions")
        ]
    show_table(["version", "", "strategy", "score", "size", "job", "created"], rows, empty="No versions yet.")


def promote(
    model: Model,
    version: Annotated[int, typer.Argument(help="The version that shall answer.", metavar="VERSION")],
    server: Server = None,
    key: Key = None,
) -> None:
    """Let a version answer from now on."""
    _set_live(model, version, server, key)


def rollback(model: Model, server: Server = None, key: Key = None) -> None:
    """Let the version answer that answered before."""
    _set_live(model, "previous", server, key)


def delete_model(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Delete a model with all of its versions."""
    if not yes:
        typer.confirm(f"Delete {model} and all of its versions?", abort=True)
    with Client(as_customer(server, key)) as client:
        client.delete(f"/v1/models/{model}")
    out.print(f"{model} is deleted.")


def predict(
    model: Model,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; without any, the lines of stdin.", metavar="TEXT")
    ] = None,
    *,
    top_k: Annotated[int, typer.Option(min=1, help="How many answers for each text.")] = 1,
    pairs: Annotated[bool, typer.Option("--pairs", help="Each text is two, with a tab between them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Ask a model."""
    inputs = texts or _stdin_lines()
    with Client(as_customer(server, key)) as client:
        for first in range(0, len(inputs), _ROWS_PER_REQUEST):
            batch = inputs[first : first + _ROWS_PER_REQUEST]
            started = time.perf_counter()
            asked = [_pair(text) for text in batch] if pairs else batch
            answer = client.post(f"/v1/models/{model}/predict", {"inputs": asked, "top_k": top_k})
            took_ms = (time.perf_counter() - started) * 1000
            for text, prediction in zip(batch, answer["predictions"], strict=True):
                if as_json:
                    sys.stdout.write(json.dumps({"input": text, **prediction}, ensure_ascii=False) + "\n")
                else:
                    out.print(Text.assemble((text, "dim"), "  ", *answer_line(prediction)))
    if not as_json:
        name = f"{answer['model']}@{answer['version']}"
        console.err.print(Text(f"{name} · {len(inputs)} texts · last request {took_ms:.0f} ms", style="dim"))


def answer_line(prediction: dict[str, Any]) -> list[tuple[str, str] | str]:
    """One prediction, whatever its task, for a reader."""
    if "label" in prediction:
        best = prediction.get("top") or [prediction]
        parts: list[tuple[str, str] | str] = []
        for rank, entry in enumerate(best):
            parts += [(str(entry["label"]), "bold" if rank == 0 else ""), f" {entry['score']:.3f}  "]
        return parts
    if "labels" in prediction:
        scores = prediction.get("scores", {})
        return [
            (", ".join(f"{label} {scores.get(label, 0):.3f}" for label in prediction["labels"]) or "(none)", "bold")
        ]
    if "value" in prediction:
        low, high = prediction.get("low"), prediction.get("high")
        reach = "" if low is None or high is None else f"  {low:.4g} to {high:.4g}"
        return [(f"{prediction['value']:.4g}", "bold"), (reach, "dim")]
    if "spans" in prediction:
        parts = []
        for span in prediction["spans"]:
            parts += [(str(span["label"]), "bold"), f" {span['text']!r} {span['score']:.3f}  "]
        return parts or ["(none)"]
    return [(json.dumps(prediction, ensure_ascii=False), "bold")]


def _set_live(model: str, version: int | str, server: str | None, key: str | None) -> None:
    with Client(as_customer(server, key)) as client:
        alias = client.put(f"/v1/models/{model}/aliases/live", {"version": version})
    out.print(f"{alias['model']}: version {alias['version']} answers now (before: {alias.get('previous') or 'none'}).")


def _stdin_lines() -> list[str]:
    if sys.stdin.isatty():
        raise CommandError(reason="Nothing to ask. Give texts as arguments, or lines on stdin.")
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    inputs = [line for line in lines if line.strip()]
    if not inputs:
        raise CommandError(reason="Nothing to ask: stdin has no line with text.")
    return inputs


def _pair(line: str) -> dict[str, str]:
    first, tab, second = line.partition("\t")
    if not tab:
        raise CommandError(reason=f"--pairs takes two texts with a tab between them; got {line[:60]!r}.")
    return {"text": first, "text_pair": second}


def _figure(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _count(value: Any) -> str:
    return f"{value / 1e6:.1f} M" if isinstance(value, int | float) else ""
