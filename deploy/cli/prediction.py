"""`graft predict`: texts, pairs of texts, pictures and sounds."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from deploy.cli import box_drawing, console, input_files, writing
from deploy.cli.client import Client
from deploy.cli.connection import Key, Server, as_customer
from deploy.cli.console import out
from deploy.cli.errors import TO_UTF8, CommandError
from deploy.cli.input_files import STDIN, InputFile
from deploy.cli.lookup import suggesting_models
from models.datasets.media.encodings import NOUNS
from models.datasets.tasks import TASKS
from models.datasets.tasks.task import Task

Model = Annotated[str, typer.Argument(help="A model's name; name@3 pins a version.", metavar="MODEL")]
_ROWS_PER_REQUEST = 256


def predict(
    model: Model,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts, or files of pictures or sounds: paths, patterns such as '*.jpg'. Without any, or with -, "
            "stdin: its lines, or one picture or sound."
        ),
    ] = None,
    *,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="How many labels for each input, 1 by default; of boxes, all.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Of boxes: the score that they must reach.")
    ] = None,
    pairs: Annotated[bool, typer.Option("--pairs", help="Each input is two texts with a tab between them.")] = False,
    draw: Annotated[
        Path | None, typer.Option(help="Draw the boxes that a detector finds into a copy of the picture.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per input.")] = False,
    server: Server = None,
    key: Key = None,
) -> None:
    """Ask a model."""
    given = {"top_k": top_k, "min_score": min_score}
    options = {name: value for name, value in given.items() if value is not None}
    with Client(as_customer(server, key)) as client, suggesting_models(client, model):
        found = client.get(f"/v1/models/{model}")
        if writing.writes(found):
            writing.check(model, {"--pairs": pairs, "--draw": draw, "--top-k": top_k, "--min-score": min_score})
            writing.ask(client, found, model, _texts(model, inputs or []), as_json=as_json)
            return
        task = _task_of(found, model)
        files: list[InputFile] = []
        if task.modality == "text":
            asked = _texts(model, inputs or [])
            requests = _of_texts(client, model, asked, options, pairs=pairs)
        else:
            if pairs:
                raise CommandError(reason=f"--pairs is for models of two texts; '{model}' reads {task.modality}.")
            files = input_files.find(inputs or [STDIN], task.modality)
            asked = [file.name for file in files]
            requests = _of_files(client, model, files, options)
        if draw is not None:
            box_drawing.check(draw, model, task.name, files)
        truncated = 0
        started = time.perf_counter()
        for batch, answer in requests:
            took_ms = (time.perf_counter() - started) * 1000
            cut = set(answer.get("truncated") or ())
            for index, (text, prediction) in enumerate(zip(batch, answer["predictions"], strict=True)):
                if as_json:
                    line = {"input": text, **prediction, "truncated": index in cut}
                    sys.stdout.write(console.as_json(line) + "\n")
                else:
                    out.print(Text.assemble((text, "dim"), "  ", *answer_line(prediction)))
            truncated += len(cut)
            if draw is not None:
                box_drawing.write(draw, files[0], answer["predictions"][0])
                console.err.print(Text(f"The boxes are drawn in {draw}.", style="dim"))
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
    if "boxes" in prediction:
        parts = []
        for found in prediction["boxes"]:
            edges = ", ".join(f"{found['box'][side]:.0f}" for side in ("left", "top", "right", "bottom"))
            parts += [(str(found["label"]), "bold"), f" {found['score']:.3f} ({edges})  "]
        return parts or ["(none)"]
    return [(console.as_json(prediction), "bold")]


def _task_of(found: dict[str, Any], model: str) -> Task:
    """Return the task of a model; raises CommandError for one that this command does not know, or that has none."""
    if found.get("kind") == "base":
        advice = f"train one from it with `graft train FILE --base {found['id']}`"
        raise CommandError(reason=f"'{model}' is a base model, and predict asks models of your own: {advice}.")
    task = TASKS.get(str(found.get("task")))
    if task is None:
        reason = f"'{model}' is for {found.get('task')}, which this graft does not know: upgrade it, or use the API."
        raise CommandError(reason=reason)
    return task


def _of_texts(
    client: Client, model: str, texts: Sequence[str], options: dict[str, float], *, pairs: bool
) -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
    for first in range(0, len(texts), _ROWS_PER_REQUEST):
        batch = texts[first : first + _ROWS_PER_REQUEST]
        asked = [_pair(text) for text in batch] if pairs else list(batch)
        yield batch, client.post(f"/v1/models/{model}/predict", {"inputs": asked, **options})


def _of_files(
    client: Client, model: str, files: Sequence[InputFile], options: dict[str, float]
) -> Iterator[tuple[Sequence[str], dict[str, Any]]]:
    fields = {name: str(value) for name, value in options.items()}
    for batch in input_files.batches(files):
        with ExitStack() as stack:
            parts = {
                f"file{number}": (Path(file.name).name, stack.enter_context(file.open()))
                for number, file in enumerate(batch)
            }
            answer = client.upload(f"/v1/models/{model}/predict", fields=fields, files=parts)
            yield [file.name for file in batch], answer


def _texts(model: str, given: Sequence[str]) -> list[str]:
    """Return the texts that are asked about. Raises CommandError for the file of a picture or a sound."""
    if list(given) in ([], [STDIN]):
        return _stdin_lines()
    for text in filter(input_files.is_file, given):
        if medium := input_files.medium_of(text):
            raise CommandError(reason=f"'{model}' reads text, and {text} is {NOUNS[medium]}.")
        advice = f"This model reads texts: it is asked about the name of the file, not its content. < {text} asks "
        console.err.print(Text(f"{advice}about each of its lines.", style="yellow"))
    return list(given)


def _stdin_lines() -> list[str]:
    if sys.stdin.isatty():
        raise CommandError(reason="Nothing to ask. Give texts or files as arguments, or lines on stdin.")
    data = sys.stdin.buffer.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CommandError(reason=f"Line {line} of stdin is not UTF-8. {TO_UTF8}") from None
    lines = [line.rstrip("\n") for line in io.StringIO(text, newline=None)]
    inputs = [line for line in lines if line.strip()]
    if not inputs:
        raise CommandError(reason="Nothing to ask: stdin has no line with text.")
    return inputs


def _pair(line: str) -> dict[str, str]:
    first, tab, second = line.partition("\t")
    if not tab:
        raise CommandError(reason=f"--pairs takes two texts with a tab between them; got {line[:60]!r}.")
    return {"text": first, "text_pair": second}
