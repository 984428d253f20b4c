"""Boxes that were found, matched with those that were drawn, by COCO's own evaluation (pycocotools).

The metric is COCO's: a found box is right where it overlaps a drawn one of its label by an IoU (intersection over
union) of at least the threshold, each drawn one once, the surest first; the average precision (AP) of a label is the
mean of the precision at 101 recalls; of a model, the mean over labels. AP50 is at an IoU of 0.5, AP the mean over 0.5
to 0.95 (Lin et al., 2014, arXiv:1405.0312). At most 100 boxes of a label in one picture count.

For a learner: `match` what was found on held-out pictures; `average_precision.tally` of that goes to `scores.score` and
`scores.compare`, `average_precision.describe` and `box_errors` (with `best_min_score`) into the report.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.datasets.examples import Box

Floats = NDArray[np.float64]
IOU_THRESHOLDS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
MOST_FOUND = 100


@dataclass(frozen=True, slots=True)
class PictureBoxes:
    """The boxes of one picture: as they were drawn, or as they were found and then with scores.

    `edges_B4`: left, top, right, bottom in pixels; `label_B`: positions in the model's labels; `score_B`: None for
    drawn ones.
    """

    edges_B4: Floats
    label_B: NDArray[np.int64]
    score_B: Floats | None = None

    def __len__(self) -> int:
        return len(self.label_B)


@dataclass(frozen=True, slots=True)
class LabelMatches:
    """The boxes found of one label in N pictures, D in all, the surest first, and which of them are right."""

    score_D: Floats
    picture_D: NDArray[np.int64]
    right_TD: NDArray[np.bool_]  # by IoU threshold
    drawn_N: NDArray[np.int64]  # boxes of the label that are to be found in each picture


@dataclass(frozen=True, slots=True)
class Matches:
    """What a model found in N pictures, by label, and its average precision as pycocotools computes it."""

    labels: tuple[LabelMatches, ...]
    ap_TK: Floats  # NaN for a label that is drawn in no picture

    @property
    def pictures(self) -> int:
        """Number of pictures."""
        return len(self.labels[0].drawn_N)


def drawn(boxes: Sequence[Box], labels: Sequence[str]) -> PictureBoxes:
    """Return the target of an example; boxes of other labels than `labels` are left out."""
    place = {label: at for at, label in enumerate(labels)}
    known = [box for box in boxes if box.label in place]
    edges_B4 = np.array([(box.left, box.top, box.right, box.bottom) for box in known], dtype=np.float64)
    return PictureBoxes(edges_B4.reshape(-1, 4), np.array([place[box.label] for box in known], dtype=np.int64))


def match(
    drawn_N: Sequence[PictureBoxes],
    found_N: Sequence[PictureBoxes],
    labels: int,
    *,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
) -> Matches:
    """Match what was found with what was drawn in the same pictures; `labels`: how many there are.

    Takes about a millisecond for a picture of a few boxes at one threshold, and as many times that as there are
    thresholds: `(0.5,)` is enough while a model is being trained.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # the library reports its progress there
        evaluation = COCOeval(_dataset(drawn_N, labels), _dataset(found_N, labels), "bbox")
        evaluation.params.iouThrs = np.array(thresholds)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e30]], ["all"]
        evaluation.params.maxDets = [MOST_FOUND]
        evaluation.evaluate()
        evaluation.accumulate()
    precision_TRK = evaluation.eval["precision"][:, :, :, 0, 0]
    ap_TK = np.where(precision_TRK[:, 0] < 0, np.nan, precision_TRK.mean(1))
    pictures = len(drawn_N)
    found = [evaluation.evalImgs[label * pictures : (label + 1) * pictures] for label in range(labels)]
    return Matches(tuple(_of_label(each, len(thresholds)) for each in found), ap_TK)


def _of_label(pictures: list[dict[str, Any] | None], thresholds: int) -> LabelMatches:
    drawn_N = np.array([0 if each is None else len(each["gtIds"]) for each in pictures], dtype=np.int64)
    found_N = [0 if each is None else len(each["dtIds"]) for each in pictures]
    whole = [each for each in pictures if each is not None]
    score_D = np.concatenate([np.empty(0), *(each["dtScores"] for each in whole)])
    right_TD = np.concatenate([np.empty((thresholds, 0)), *(each["dtMatches"] for each in whole)], axis=1) > 0
    picture_D = np.repeat(np.arange(len(pictures)), found_N)
    order_D = np.argsort(-score_D, kind="mergesort")  # as the library sorts them
    return LabelMatches(score_D[order_D], picture_D[order_D], right_TD[:, order_D], drawn_N)


def _dataset(pictures: Sequence[PictureBoxes], labels: int) -> Any:
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(len(pictures))],
        "categories": [{"id": label} for label in range(labels)],
        "annotations": _annotations(pictures),
    }
    coco.createIndex()
    return coco


def _annotations(pictures: Sequence[PictureBoxes]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for number, boxes in enumerate(pictures):
        score_B = np.ones(len(boxes)) if boxes.score_B is None else boxes.score_B
        for edges_4, label, score in zip(boxes.edges_B4, boxes.label_B, score_B, strict=True):
            left, top, right, bottom = (float(edge) for edge in edges_4)
            width, height = right - left, bottom - top
            entries.append(
                {
                    "id": len(entries) + 1,  # 0 is "not matched" to the library
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                    "score": float(score),
                }
            )
    return entries
