"""Long texts: what is read in windows beside what is cut off at the base's longest input, score and seconds.

`python -m tests.benchmarks.windows [--rows 160] [--test 100] [--tokens 2000] [--sets …] [--strategies head …]
[--features auto]`. A document has messages of a public set among messages of another, one at a random place, or as many
as fill the last quarter; its label, or its spans, are those of the former. Both arms learn from and answer the same
documents. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from models.artifacts.folder import read_artifact
from models.backbones import loading, registry
from models.backbones.text import TextBackbone
from models.learning import encoder
from models.learning.contract.events import Finished
from models.learning.contract.request import DatasetSource, Hyperparameters, Strategy, TrainRequest
from models.learning.training import train
from tests.benchmarks import scoring, task_sets
from tests.benchmarks.task_sets import Row, TaskSet
from tests.models.learning import inference

_INTENTS = 10
_MESSAGES_AT_THE_END = 32  # 500 tokens


@dataclass(frozen=True, slots=True)
class Documents:
    """One set of documents."""

    title: str
    rows: Callable[[], TaskSet]
    at_the_end: bool = False  # the last quarter is of the label; else one message anywhere


@dataclass(frozen=True, slots=True)
class Measured:
    """One arm on one set."""

    score: str
    training_s: float
    predict_s: float  # per document


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=160, help="documents to train on")
    parser.add_argument("--test", type=int, default=100, help="documents to answer")
    parser.add_argument("--tokens", type=int, default=2_000, help="of a document")
    parser.add_argument("--sets", nargs="+", choices=_SETS, default=list(_SETS))
    parser.add_argument("--strategies", nargs="+", default=["head"])
    parser.add_argument("--features", default="auto", help="of the head: fewer candidates take less time")
    asked = parser.parse_args(argv)
    hyperparameters = Hyperparameters(features=asked.features)
    backbone: Any = loading.load(registry.MINILM)
    print("| documents | strategy | cut at 256 tokens | in windows | training, s | predict, s per document |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, strategy in itertools.product(asked.sets, asked.strategies):
        data = _documents(_SETS[name], backbone, rows=asked.rows, test=asked.test, tokens=asked.tokens)
        cut, windows = (
            _measure(data, backbone, strategy, hyperparameters, windows=windows) for windows in (False, True)
        )
        seconds = f"{cut.training_s:.0f} → {windows.training_s:.0f} | {cut.predict_s:.2f} → {windows.predict_s:.2f}"
        print(f"| {_SETS[name].title} | {strategy} | {cut.score} | {windows.score} | {seconds} |", flush=True)
    return 0


def _measure(
    data: TaskSet, backbone: TextBackbone, strategy: Strategy, hyperparameters: Hyperparameters, *, windows: bool
) -> Measured:
    with tempfile.TemporaryDirectory() as place:
        folder, columns = Path(place), {name: name for name in data.train[0]}
        request = TrainRequest(
            DatasetSource(data.write(folder), "jsonl" if "spans" in columns else "csv", columns),
            data.task,
            folder / "out",
            strategy=strategy,
            hyperparameters=hyperparameters,
        )
        began = time.monotonic()
        chosen = encoder.windowing_of if windows else lambda _: None  # the second as it was before there were windows
        with mock.patch.object(encoder, "windowing_of", chosen):
            *_, end = train(request, backbone, stop=lambda: False)
        training_s = time.monotonic() - began
        assert isinstance(end, Finished)
        artifact = read_artifact(folder / "out" / end.best)
        began = time.monotonic()
        answers = inference.predict(artifact, backbone, [row["text"] for row in data.test])
        predict_s = (time.monotonic() - began) / len(data.test)
    found = scoring.score(data.task, data.test, answers)
    return Measured(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})", training_s, predict_s)


def _documents(asked: Documents, backbone: TextBackbone, *, rows: int, test: int, tokens: int) -> TaskSet:
    """Put messages of another set before each row, and behind it, so that the whole has about so many tokens."""
    data = asked.rows()
    ham = [row["text"] for row in task_sets.sms_spam().train if row["label"] == "ham"]
    lengths = dict(zip(ham, map(len, backbone.tokenize(ham)), strict=True))
    generator = random.Random(0)

    def document(row: Row, part: list[Row]) -> Row:
        own = [row["text"]]
        if asked.at_the_end:  # with others of its label
            alike = [other["text"] for other in part if other["label"] == row["label"]]
            own += generator.sample(alike, _MESSAGES_AT_THE_END - 1)
        left, messages = tokens - sum(map(len, backbone.tokenize(own))), []
        while left > 0:
            messages.append(generator.choice(ham))
            left -= lengths[messages[-1]] - 2
        at = len(messages) if asked.at_the_end else generator.randrange(len(messages) + 1)
        before = "\n".join([*messages[:at], ""])
        found = {**row, "text": "\n".join([*messages[:at], *own, *messages[at:]])}
        if "spans" in row:
            found["spans"] = [
                {**span, "start": span["start"] + len(before), "end": span["end"] + len(before)}
                for span in row["spans"]
            ]
        return found

    return TaskSet(
        data.task,
        [document(row, data.train) for row in task_sets.drawn(data.train, rows)],
        [document(row, data.test) for row in task_sets.drawn(data.test, test)],
    )


def _intents() -> TaskSet:
    data = task_sets.banking77()
    kept = set(sorted({row["label"] for row in data.train})[:: 77 // _INTENTS][:_INTENTS])
    return TaskSet(data.task, *([row for row in part if row["label"] in kept] for part in (data.train, data.test)))


def _slots() -> TaskSet:
    data = task_sets.restaurant8k()
    return TaskSet(data.task, *([row for row in part if row["spans"]] for part in (data.train, data.test)))


_SETS = {
    "intents-at-the-end": Documents("banking77, 10 intents, the last quarter is of one", _intents, at_the_end=True),
    "one-intent": Documents("banking77, 10 intents, one message of about 80", _intents),
    "one-question": Documents("trec, 6 classes, one message of about 80", task_sets.trec),
    "slots": Documents("restaurant8k, spans in one message of about 80", _slots),
}


if __name__ == "__main__":
    sys.exit(main())
