"""What an answer is worth: every arm's answers, over HTTP or a peer's, are judged by the same few lines.

Answers have the form in which the API gives them: `label`, `labels`, `value`, `spans` in characters, or `boxes`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from models.learning.evaluation import average_precision, scores
from models.learning.evaluation.boxes import Matches, PictureBoxes, match
from models.learning.evaluation.scores import Score
from models.learning.tasks import find
from models.learning.tasks.task import Tally, hits, shares

Row = dict[str, Any]

METRICS = {
    "multi-label-classification": "micro-F1",
    "text-regression": "Pearson",
    "token-classification": "entity F1",
    "object-detection": "AP50",
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
    if task == "object-detection":
        return average_precision.tally(box_matches(rows, answers)[0])
    if task in METRICS:
        pairs = [(_things(row), _things(answer)) for row, answer in zip(rows, answers, strict=True)]
        right_N = np.array([2 * len(true & said) for true, said in pairs])
        return shares(right_N, np.array([len(true) + len(said) for true, said in pairs]))
    return hits(np.array([row["label"] == answer["label"] for row, answer in zip(rows, answers, strict=True)]))


def box_matches(rows: Sequence[Row], answers: Sequence[Row]) -> tuple[Matches, list[str]]:
    """What was found, matched with what is drawn, and the labels; boxes of labels that are drawn nowhere count not."""
    labels = sorted({box["label"] for row in rows for box in row["boxes"]})
    drawn_N, found_N = ([_boxes(row["boxes"], labels) for row in part] for part in (rows, answers))
    return match(drawn_N, found_N, len(labels)), labels


def _boxes(boxes: Sequence[Row], labels: Sequence[str]) -> PictureBoxes:
    known = [box for box in boxes if box["label"] in labels]
    edges = np.array([[box["box"][side] for side in ("left", "top", "right", "bottom")] for box in known])
    score_B = np.array([box.get("score", 1.0) for box in known])
    label_B = np.array([labels.index(box["label"]) for box in known], dtype=np.int64)
    return PictureBoxes(edges.reshape(-1, 4), label_B, score_B)


def _things(row: Row) -> set[Hashable]:
    """What was said of a row, right or wrong as a whole each: labels, or spans with borders and label."""
    if "labels" in row:
        return set(row["labels"])
    return {(span["start"], span["end"], span["label"]) for span in row["spans"]}
