"""The rows of a run in memory: inputs, encoded targets, and where each came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.examples import Example, Input, Media, TextPair
from models.datasets.reading import read
from models.datasets.repeats import normalised
from models.learning.contract.errors import TooFewRows, UnknownLabel
from models.learning.contract.request import DatasetSource
from models.learning.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Corpus:
    """N rows. `digest` identifies the inputs in their order, whatever file they were in."""

    inputs: list[Input]
    targets: Any  # Targets as the task encodes them; Ragged where a row has several, once it is tokenised
    labels: tuple[str, ...]
    rows: NDArray[np.int64]  # row numbers in the file
    duplicates_N: NDArray[np.int64]  # equal for inputs that are the same, case and spaces aside
    digest: str

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: NDArray[np.int64]) -> Corpus:
        """Some rows of it."""
        return Corpus(
            inputs=[self.inputs[row] for row in rows],
            targets=self.targets[rows],
            labels=self.labels,
            rows=self.rows[rows],
            duplicates_N=self.duplicates_N[rows],
            digest=hashlib.sha256(self.digest.encode() + rows.tobytes()).hexdigest(),
        )


def read_training(source: DatasetSource, task: Task) -> tuple[Corpus, Task]:
    """All rows of the training file, and the task bound to them; raises InvalidDataset and TooFewRows."""
    examples = list(read(source.path, format=source.format, task=task.name, columns=source.columns))
    targets = [example.target for example in examples]
    if (kinds := task.kinds(targets)) < 2 or len(examples) < 4:
        raise TooFewRows(got=len(examples), kinds=kinds)
    bound = task.bind(targets)
    return _corpus(examples, bound, bound.labels(targets)), bound


def read_validation(source: DatasetSource, task: Task, labels: Sequence[str]) -> Corpus:
    """All rows of the validation file; raises InvalidDataset and UnknownLabel."""
    examples = list(read(source.path, format=source.format, task=task.name, columns=source.columns))
    known = set(labels)
    for example in examples:
        for label in task.labels([example.target]):
            if label not in known:
                raise UnknownLabel(row=example.row, label=label)
    return _corpus(examples, task, tuple(labels))


def _corpus(examples: list[Example], task: Task, labels: tuple[str, ...]) -> Corpus:
    digest = hashlib.sha256()
    inputs: list[Input] = []
    for example in examples:
        inputs.append(example.input)
        parts = _parts(example.input)
        digest.update(b"\x01" * len(parts))
        for data in parts:
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return Corpus(
        inputs=inputs,
        targets=task.encode([example.target for example in examples], labels),
        labels=labels,
        rows=np.array([example.row for example in examples], dtype=np.int64),
        duplicates_N=np.array([hash(normalised(item)) for item in inputs], dtype=np.int64),
        digest=digest.hexdigest(),
    )


def _parts(item: Input) -> tuple[bytes, ...]:
    if isinstance(item, Media):
        return (item.data,)
    texts = (item.first, item.second) if isinstance(item, TextPair) else (item,)
    return tuple(text.encode("utf-8", "surrogatepass") for text in texts)
