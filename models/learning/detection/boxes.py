"""Overlap of boxes, and which of overlapping ones stay. Boxes are (left, top, right, bottom) along the last axis."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = 1e-7


def overlap(first_4: Tensor, second_4: Tensor) -> tuple[Tensor, Tensor]:
    """Return intersection over union, and the union, of boxes that broadcast against each other."""
    size = torch.minimum(first_4[..., 2:], second_4[..., 2:]) - torch.maximum(first_4[..., :2], second_4[..., :2])
    shared = size.clamp(min=0).prod(-1)
    union = area(first_4) + area(second_4) - shared
    return shared / union.clamp(min=_TINY), union


def generalised_overlap(first_4: Tensor, second_4: Tensor) -> Tensor:
    """Return GIoU (Rezatofighi et al. 2019): below zero where boxes are apart, the more the farther."""
    found, union = overlap(first_4, second_4)
    hull = (
        torch.maximum(first_4[..., 2:], second_4[..., 2:]) - torch.minimum(first_4[..., :2], second_4[..., :2])
    ).prod(-1)
    return found - (hull - union) / hull.clamp(min=_TINY)


def area(boxes_4: Tensor) -> Tensor:
    """Return areas."""
    return (boxes_4[..., 2:] - boxes_4[..., :2]).clamp(min=0).prod(-1)


def suppress(boxes_M4: Tensor, scores_M: Tensor, labels_M: Tensor, *, threshold: float) -> Tensor:
    """Return the indices that non-maximum suppression keeps, label by label, the best score first.

    All pairs at once: a box goes if one goes over it that stays. From "all stay" that is repeated until nothing
    changes, which is the greedy answer exactly (Cluster-NMS, Zheng et al. 2020), in as many rounds as the longest chain
    of boxes that suppress each other, mostly three or four.
    """
    order_M = torch.argsort(scores_M, descending=True, stable=True)
    boxes_M4, labels_M = boxes_M4[order_M], labels_M[order_M]
    found_MM, _ = overlap(boxes_M4[:, None], boxes_M4[None])
    over_MM = ((found_MM > threshold) & (labels_M[:, None] == labels_M[None])).triu(1)
    stays_M = torch.ones(len(order_M), dtype=torch.bool, device=order_M.device)
    while True:
        next_M = ~(over_MM & stays_M[:, None]).any(0)
        if bool((next_M == stays_M).all()):
            return order_M[stays_M]
        stays_M = next_M
