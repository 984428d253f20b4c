"""From what a detector says of every place to the boxes of a picture, in the picture's own pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.learning.detection import boxes
from models.learning.detection.canvas import Placement
from models.learning.detection.network import ScoredBoxes

LEAST_SCORE = 0.02  # of boxes that are kept at all; a version's own threshold is above it
MOST_BOXES = 100  # of a picture, as in COCO's metric
_OVERLAP = 0.6  # of two boxes of a label, of which the surer stays
_CANDIDATES = 400


def read(
    found: ScoredBoxes, placements: Sequence[Placement], sizes: Sequence[tuple[int, int]]
) -> list[NDArray[np.float32]]:
    """Return the boxes of each picture (width, height), the surest first.

    (M, 6): left, top, right, bottom, score, index of the label.
    """
    outputs = []
    for at, (placement, size) in enumerate(zip(placements, sizes, strict=True)):
        edges_M4, scores_M, labels_M = _candidates(found.logits_BAK[at], found.boxes_BA4[at])
        kept = boxes.suppress(edges_M4, scores_M, labels_M, threshold=_OVERLAP)[:MOST_BOXES]
        edges = placement.back(edges_M4[kept].cpu().numpy().astype(np.float32))
        edges = np.clip(edges, 0, np.array(size * 2, dtype=np.float32))
        rest_2 = torch.stack([scores_M[kept], labels_M[kept].float()], dim=1).cpu().numpy()
        output_M6 = np.concatenate([edges, rest_2], axis=1).astype(np.float32)
        is_seen = (output_M6[:, 2] > output_M6[:, 0]) & (output_M6[:, 3] > output_M6[:, 1])
        outputs.append(output_M6[is_seen])
    return outputs


def _candidates(logits_AK: Tensor, boxes_A4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the surest pairs of place and label: boxes, scores, labels."""
    scores_P = logits_AK.sigmoid().flatten()
    scores_M, index_M = torch.topk(scores_P, min(_CANDIDATES, len(scores_P)))
    count = int((scores_M >= LEAST_SCORE).sum())
    scores_M, index_M = scores_M[:count], index_M[:count]
    labels = logits_AK.shape[1]
    return boxes_A4[index_M // labels], scores_M, index_M % labels
