"""`graft predict`: texts, pairs of texts, pictures and sounds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import console
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out
from deploy.cli.errors import CommandError
from deploy.cli.lookup import suggesting_models
from models.datasets.tasks import TASKS
from models.datasets.tasks.task import Task

Model = Annotated[str, typer.Argument(help="A model's name; name@3 pins a version.", metavar="MODEL")]
_ROWS_PER_REQUEST = 256
_BYTES_PER_REQUEST = 6_000_000  # of files; the server takes 8 MiB in one body if it is not told otherwise


def predict(
    model: Model,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Texts, or the files of pictures and sounds; without any, the lines of stdin."),
    ] = None,
    *,
    top_k: Annotated[int, typer.Option(min=1, help="How many answers for each input.")] = 1,
    pairs: Annotated[bool, typer.Option("--pairs", help="Each input is two texts with a tab between them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per input.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Ask a model."""
    asked = inputs or _stdin_lines()
    with Client(as_customer(server, key)) as client, suggesting_models(client, model):
        if _task_of(client, model).modality == "text":
            _warn_of_files(asked)
            requests = _of_texts(client, model, asked, top_k=top_k, pairs=pairs)
        else:
            requests = _of_files(client, model, asked, top_k=top_k)
        truncated = 0
        started = time.perf_counter()
        for batch, answer in requests:
            took_ms = (time.perf_counter() - started) * 1000
            cut = set(answer.get("truncated") or ())
            for index, (text, prediction) in enumerate(zip(batch, answer["predictions"], strict=True)):
                if as_json:
                    line = {"input": text, **prediction, "truncated": index in cut}
                    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
                else:
                    out.print(Text.assemble((text, "dim"), "  ", *answer_line(prediction)))
            truncated += len(cut)
            started = time.perf_counter()
    if truncated:
        which = "The input is" if len(asked) == 1 else f"{truncated} of {len(asked)} inputs are"
        advice = f"{which} longer than what the base reads: only the beginning was asked about."
        console.err.print(Text(advice, style="yellow"))
    if not as_json:
        name = f"{answer['model']}@{answer['version']}"
        count = f"{len(asked)} input{'s' if len(asked) > 1 else ''}"
        console.err.print(Text(f"{name} · {count} · last request {took_ms:.0f} ms", style="dim"))


def answer_line(prediction: dict[str, Any]) -> list[tuple[str, str] | str]:
    """Return one prediction in words, whatever its task."""
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


def _task_of(client: Client, model: str) -> Task:
    """Return the task of a model; raises CommandError for one that this command does not know, or that has none."""
    found = client.get(f"/v1/models/{model}")
    if found.get("kind") == "base":
        advice = f"train one from it with `graft train FILE --base {found['id']}`"
        raise CommandError(reason=f"'{model}' is a base model, and predict asks models of your own: {advice}.")
    task = TASKS.get(str(found.get("task")))
    if task is None:
        reason = f"'{model}' is for {found.get('task')}, which this graft does not know: upgrade it, or use the API."
        raise CommandError(reason=reason)
    return task


def _of_texts(
    client: Client, model: str, texts: Sequence[str], *, top_k: int, pairs: bool
) -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
    for first in range(0, len(texts), _ROWS_PER_REQUEST):
        batch = texts[first : first + _ROWS_PER_REQUEST]
        asked = [_pair(text) for text in batch] if pairs else list(batch)
        yield batch, client.post(f"/v1/models/{model}/predict", {"inputs": asked, "top_k": top_k})


def _of_files(
    client: Client, model: str, names: Sequence[str], *, top_k: int
) -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
    for batch in _batches(names):
        with ExitStack() as stack:
            files = {
                f"file{number}": (Path(name).name, stack.enter_context(Path(name).open("rb")))
                for number, name in enumerate(batch)
            }
            yield batch, client.upload(f"/v1/models/{model}/predict", fields={"top_k": str(top_k)}, files=files)


def _batches(names: Sequence[str]) -> Iterator[list[str]]:
    """Yield requests of files, of at most `_BYTES_PER_REQUEST`, one file at least in each. Raises CommandError."""
    batch: list[str] = []
    size = 0
    for name in names:
        if not Path(name).is_file():
            raise CommandError(reason=f"This model reads files, and there is no file {name}.")
        own = Path(name).stat().st_size
        if batch and (size + own > _BYTES_PER_REQUEST or len(batch) == _ROWS_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += own
    yield batch


def _warn_of_files(texts: Sequence[str]) -> None:
    for text in texts:
        if len(text) < 256 and "\n" not in text and "\0" not in text and Path(text).is_file():
            advice = f"This model reads texts: it is asked about the name of the file, not its content. < {text} asks "
            console.err.print(Text(f"{advice}about each of its lines.", style="yellow"))


def _stdin_lines() -> list[str]:
    if sys.stdin.isatty():
        raise CommandError(reason="Nothing to ask. Give texts or files as arguments, or lines on stdin.")
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
