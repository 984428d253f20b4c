"""What an answer is worth: every arm's answers, over HTTP or a peer's, are judged by the same few lines.

Answers have the form in which the API gives them: `label`, `labels`, `value`, or `spans` in characters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from models.learning.evaluation import scores
from models.learning.evaluation.scores import Score
from models.learning.tasks import find
from models.learning.tasks.task import Tally, hits, shares

Row = dict[str, Any]

METRICS = {
    "multi-label-classification": "micro-F1",
    "text-regression": "Pearson",
    "token-classification": "entity F1",
}


def metric(task: str) -> str:
    """The name of a task's score."""
    return METRICS.get(task, "accuracy")


def score(task: str, rows: Sequence[Row], answers: Sequence[Row]) -> Score:
    """The score of `answers` for `rows` with its 95 % interval."""
    assert len(rows) == len(answers)
    return scores.score(_tally(task, rows, answers))


def _tally(task: str, rows: Sequence[Row], answers: Sequence[Row]) -> Tally:
    if task == "text-regression":
        true_N, said_N = (np.array([row["value"] for row in part], dtype=np.float64) for part in (rows, answers))
        return find(task).tally(true_N[:, None], said_N[:, None])
    if task in METRICS:
        pairs = [(_things(row), _things(answer)) for row, answer in zip(rows, answers, strict=True)]
        right_N = np.array([2 * len(true & said) for true, said in pairs])
        return shares(right_N, np.array([len(true) + len(said) for true, said in pairs]))
    return hits(np.array([row["label"] == answer["label"] for row, answer in zip(rows, answers, strict=True)]))


def _things(row: Row) -> set[Hashable]:
    """What was said of a row, right or wrong as a whole each: labels, or spans with borders and label."""
    if "labels" in row:
        return set(row["labels"])
    return {(span["start"], span["end"], span["label"]) for span in row["spans"]}
