"""The rows of a run in memory: inputs, encoded targets, and where each came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets import rare_labels
from models.datasets.examples import Conversation, Example, Input, Media, TextPair
from models.datasets.rare_labels import RareLabels, Replaced
from models.datasets.reading import read
from models.datasets.repeats import compared, normalised
from models.datasets.tasks import unlabeled
from models.learning.contract.errors import TooFewRows, UnknownLabel
from models.learning.contract.request import DatasetSource
from models.learning.data import groups
from models.learning.data.groups import Groups
from models.learning.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Corpus:
    """N rows. `digest` identifies the inputs in their order, whatever file they were in."""

    inputs: list[Input]
    targets: Any  # Targets as the task encodes them; Ragged where a row has several, once it is tokenised
    labels: tuple[str, ...]
    rows: NDArray[np.int64]  # row numbers in the file
    duplicates_N: NDArray[np.int64]  # equal for inputs that are the same, case and spaces aside
    input_keys_N: NDArray[np.uint64]  # the same, but equal in every process
    row_keys_N: NDArray[np.uint64]  # of input and target
    digest: str
    groups: Groups  # of rows that are held out together
    left_out: dict[str, Any] = field(default_factory=dict)  # of the file, and why: entries of the report

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: NDArray[np.int64]) -> Corpus:
        """Return some rows, in this order."""
        return Corpus(
            inputs=[self.inputs[row] for row in rows],
            targets=self.targets[rows],
            labels=self.labels,
            rows=self.rows[rows],
            duplicates_N=self.duplicates_N[rows],
            input_keys_N=self.input_keys_N[rows],
            row_keys_N=self.row_keys_N[rows],
            digest=hashlib.sha256(self.digest.encode() + rows.tobytes()).hexdigest(),
            groups=self.groups.take(rows),
            left_out=self.left_out,
        )


def read_training(source: DatasetSource, task: Task, rule: RareLabels) -> tuple[Corpus, Task, Replaced]:
    """Read the training file; return its rows, the task bound to them, and what became of rare labels.

    Raises InvalidDataset and TooFewRows.
    """
    read_all = list(read(source.path, format=source.format, task=task.name, columns=source.columns))
    replaced = rule.decide(rare_labels.count(read_all))
    examples = replaced.apply(read_all)
    targets = [example.target for example in examples]
    if (kinds := task.kinds(targets)) < 2 or len(examples) < 4:
        raise TooFewRows(got=len(examples), kinds=kinds, rare=_rare(replaced, rule))
    bound = task.bind(targets)
    labels = bound.labels(targets)
    corpus = _corpus(examples, bound.encode(targets, labels), labels)
    if not replaced.labels:
        return corpus, bound, replaced
    how = {"rule": "merge" if replaced.other else "drop", "min_rows_per_label": rule.minimum}
    left_out = {"labels": dict(replaced.labels), "rows": len(read_all) - len(examples), **how}
    return replace(corpus, left_out={"rare_labels": left_out}), bound, replaced


def read_validation(source: DatasetSource, task: Task, training: Corpus, replaced: Replaced) -> Corpus:
    """Read the validation file without the rows that are in training, too; there may be no others.

    They were learned, so that they say nothing about rows to come. Raises InvalidDataset and UnknownLabel.
    """
    read_all = list(read(source.path, format=source.format, task=task.name, columns=source.columns))
    examples = replaced.apply(read_all)
    known = set(training.labels)
    for example in examples:
        for label in task.labels([example.target]):
            if label not in known:
                raise UnknownLabel(row=example.row, label=label)
    encoded = task.encode([example.target for example in examples], training.labels)
    corpus = _corpus(examples, encoded, training.labels)
    new_N = np.flatnonzero(~np.isin(corpus.duplicates_N, training.duplicates_N))
    left_out: dict[str, Any] = {"rows": len(read_all), "in_training": len(corpus) - len(new_N)}
    if len(examples) < len(read_all):
        left_out["with_rare_labels"] = len(read_all) - len(examples)
    return replace(corpus if len(new_N) == len(corpus) else corpus.take(new_N), left_out=left_out)


def read_unlabeled(source: DatasetSource, training: Corpus, validation: Corpus | None) -> Corpus:
    """Read rows without labels; their targets are empty. Raises InvalidDataset.

    Those that are in one of the two other files, case and spaces aside, are left out: a held-out row must not be
    learned from, whatever label it is given. Of rows that repeat the first one is kept.
    """
    kind = unlabeled.kind_of_columns(source.columns)
    examples = list(read(source.path, format=source.format, task=kind, columns=source.columns))
    corpus = _corpus(examples, np.empty((len(examples), 0), dtype=np.float32), training.labels)
    first_N = np.zeros(len(corpus), dtype=np.bool_)
    first_N[np.unique(corpus.duplicates_N, return_index=True)[1]] = True
    trained_N = np.isin(corpus.duplicates_N, training.duplicates_N)
    held_N = np.isin(corpus.duplicates_N, [] if validation is None else validation.duplicates_N) & ~trained_N
    kept_N = first_N & ~trained_N & ~held_N
    left_out = {
        "rows": len(corpus),
        "in_training": int(trained_N.sum()),
        "in_validation": int(held_N.sum()),
        "repeated": int((~first_N & ~trained_N & ~held_N).sum()),
    }
    return replace(corpus.take(np.flatnonzero(kept_N)), left_out=left_out)


def _rare(replaced: Replaced, rule: RareLabels) -> str:
    """Return what to do about labels that were replaced, a sentence behind another; empty if none was."""
    if not replaced.labels:
        return ""
    done = "joined" if replaced.other else "left out"
    return (
        f" {len(replaced.labels)} labels with fewer than {rule.minimum} rows were {done}: ask for a smaller "
        "min_rows_per_label, or add rows."
    )


def _corpus(examples: list[Example], targets: Any, labels: tuple[str, ...]) -> Corpus:
    digest = hashlib.sha256()
    inputs: list[Input] = []
    alike = [normalised(compared(example)) for example in examples]
    for example in examples:
        inputs.append(example.input)
        parts = _parts(example.input)
        digest.update(b"\x01" * len(parts))
        for data in parts:
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return Corpus(
        inputs=inputs,
        targets=targets,
        labels=labels,
        rows=np.array([example.row for example in examples], dtype=np.int64),
        duplicates_N=np.array([hash(item) for item in alike], dtype=np.int64),
        input_keys_N=np.array([_key(item) for item in alike], dtype=np.uint64),
        row_keys_N=np.array(
            [_key(item, repr(example.target)) for item, example in zip(alike, examples, strict=True)], dtype=np.uint64
        ),
        digest=digest.hexdigest(),
        groups=groups.find(examples),
    )


def _key(*values: object) -> int:
    """Return 64 bits of a hash that is the same in every process, unlike `hash`, which is salted."""
    digest = hashlib.blake2b(digest_size=8)
    for value in values:
        data = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


def _parts(item: Input) -> tuple[bytes, ...]:
    if isinstance(item, Media):
        return (item.data,)
    if isinstance(item, Conversation):
        return (item.messages.encode(), item.tools.encode())
    texts = (item.first, item.second) if isinstance(item, TextPair) else (item,)
    return tuple(text.encode("utf-8", "surrogatepass") for text in texts)
