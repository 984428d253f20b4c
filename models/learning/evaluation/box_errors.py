"""What a detector gets wrong above a score: labels taken for others, boxes missed, boxes around the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.evaluation.boxes import Floats, Matches, PictureBoxes

IOU = 0.5
_WORST = 10


@dataclass(frozen=True, slots=True)
class BoxErrors:
    """Counts above `min_score`. Rows of the matrix are what was drawn, columns what was found.

    Its last row is the background (found where nothing is drawn), its last column what was missed.
    """

    min_score: float
    counts: NDArray[np.int64]  # (K + 1, K + 1)
    errors_N3: NDArray[np.int64]  # by picture: confused, missed, background


def best_min_score(matches: Matches) -> float:
    """Return the score above which boxes have the best F1 at the first threshold, over all labels together.

    It lies between two scores that were seen; 0.5 if nothing that was found is right.
    """
    score_D = np.concatenate([each.score_D for each in matches.labels])
    right_D = np.concatenate([each.right_TD[0] for each in matches.labels])
    drawn = sum(int(each.drawn_N.sum()) for each in matches.labels)
    if not right_D.any():
        return 0.5
    order = np.argsort(-score_D, kind="stable")
    score_D, right_D = score_D[order], np.cumsum(right_D[order])
    f1_D = 2 * right_D / (np.arange(1, len(score_D) + 1) + drawn)
    last_of_tie = np.append(score_D[:-1] > score_D[1:], True)
    best = int(np.argmax(np.where(last_of_tie, f1_D, -1.0)))
    below = score_D[best + 1] if best + 1 < len(score_D) else 0.0
    return float((score_D[best] + below) / 2)


def count(
    drawn_N: Sequence[PictureBoxes], found_N: Sequence[PictureBoxes], labels: int, *, min_score: float
) -> BoxErrors:
    """Count the errors of boxes that were found with at least `min_score`, at an IoU of 0.5.

    Boxes of the right label are paired first, the surest first; what is left is paired with what it overlaps most.
    """
    counts = np.zeros((labels + 1, labels + 1), dtype=np.int64)
    errors_N3 = np.zeros((len(drawn_N), 3), dtype=np.int64)
    for number, (drawn, found) in enumerate(zip(drawn_N, found_N, strict=True)):
        pairs = _pairs(drawn, found, min_score)
        for drawn_label, found_label in pairs:
            counts[drawn_label, found_label] += 1
            if drawn_label != found_label:
                kind = 2 if drawn_label < 0 else 1 if found_label < 0 else 0
                errors_N3[number, kind] += 1
    return BoxErrors(min_score, counts, errors_N3)


def describe(errors: BoxErrors, labels: Sequence[str], rows: Sequence[int], names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of a report: confusions, what was missed and found in the background, the worst pictures.

    `rows` and `names` are those of the pictures, in the order in which they were counted.
    """
    missed_K, background_K = errors.counts[:-1, -1], errors.counts[-1, :-1]
    confused = errors.counts[:-1, :-1] - np.diag(np.diag(errors.counts[:-1, :-1]))
    pairs = sorted(np.argwhere(confused), key=lambda pair: -confused[pair[0], pair[1]])
    worst = np.argsort(-errors.errors_N3.sum(1), kind="stable")[:_WORST]
    return {
        "min_score": round(errors.min_score, 4),
        "confusions": [
            {"label": labels[one], "predicted": labels[other], "count": int(confused[one, other])}
            for one, other in pairs[:_WORST]
        ],
        "missed": {label: int(value) for label, value in zip(labels, missed_K, strict=True)},
        "background": {label: int(value) for label, value in zip(labels, background_K, strict=True)},
        "worst_pictures": [
            {
                "row": int(rows[number]),
                "name": names[number],
                **dict(zip(("confused", "missed", "background"), map(int, errors.errors_N3[number]), strict=True)),
            }
            for number in worst
            if errors.errors_N3[number].any()
        ],
    }


def iou(one_A4: Floats, other_B4: Floats) -> Floats:
    """Return the intersection over union (A, B) of boxes given by left, top, right, bottom."""
    corner = np.maximum(one_A4[:, None, :2], other_B4[None, :, :2])
    opposite = np.minimum(one_A4[:, None, 2:], other_B4[None, :, 2:])
    shared_AB = np.clip(opposite - corner, 0, None).prod(2)
    area_A, area_B = ((box[:, 2:] - box[:, :2]).prod(1) for box in (one_A4, other_B4))
    union_AB = area_A[:, None] + area_B[None, :] - shared_AB
    ratio_AB: Floats = shared_AB / np.maximum(union_AB, np.spacing(1))
    return ratio_AB


def _pairs(drawn: PictureBoxes, found: PictureBoxes, min_score: float) -> list[tuple[int, int]]:
    """Return labels (drawn, found) of one picture; -1 stands for the background and for what was missed."""
    score_F = np.ones(len(found)) if found.score_B is None else found.score_B
    sure = np.flatnonzero(score_F >= min_score)
    sure = sure[np.argsort(-score_F[sure], kind="stable")]
    overlap_FD = iou(found.edges_B4[sure], drawn.edges_B4)
    free_D = np.ones(len(drawn), dtype=bool)
    pairs: list[tuple[int, int]] = []
    left: list[int] = []
    for same in (True, False):
        for place in range(len(sure)) if same else left:
            label = int(found.label_B[sure[place]])
            open_D = free_D & ((drawn.label_B == label) if same else np.ones_like(free_D))
            at = int(np.argmax(np.where(open_D, overlap_FD[place], -1.0))) if open_D.any() else -1
            if at >= 0 and overlap_FD[place, at] >= IOU:
                free_D[at] = False
                pairs.append((int(drawn.label_B[at]), label))
            elif same:
                left.append(place)
            else:
                pairs.append((-1, label))
    return pairs + [(int(label), -1) for label in drawn.label_B[free_D]]
