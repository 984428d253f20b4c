"""Which places answer for which box: task-aligned assignment (TOOD, Feng et al. 2021), and its losses.

A place answers for a box that it lies in, the sooner the better its score for the box's label and the nearer its box
is: score * overlap ** 6. The best places of every box share it, and learn as score how well they did.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.learning.detection import boxes
from models.learning.detection.network import Found
from models.learning.detection.truth import Truth

_BEST = 13  # places of a box: the paper's
_OVERLAP_POWER = 6.0
_FOCUS = 2.0  # exponent by which easy places weigh less
_BOX_WEIGHT = 2.0
_NOTHING = -1e9


@dataclass(frozen=True, slots=True)
class Assigned:
    """For every place the box it answers for, and the score that it should have."""

    boxes_BA4: Tensor
    labels_BA: Tensor
    scores_BA: Tensor  # 0: it answers for none


@torch.no_grad()
def assign(found: Found, truth: Truth) -> Assigned:
    """Return what every place should have said, given what it said."""
    boxes_BM14 = truth.boxes_BM4[:, :, None]
    overlap_BMA, _ = boxes.overlap(boxes_BM14, found.boxes_BA4[:, None])
    scores_BAK = found.logits_BAK.sigmoid()
    index_BMA = truth.labels_BM[:, :, None].expand(-1, -1, scores_BAK.shape[1])
    scores_BMA = scores_BAK.transpose(1, 2).gather(1, index_BMA)
    aligned_BMA = scores_BMA * overlap_BMA.pow(_OVERLAP_POWER)
    candidate_BMA = _candidates(found, truth)
    ranked_BMA = torch.where(candidate_BMA, aligned_BMA, _NOTHING)
    best = ranked_BMA.topk(min(_BEST, ranked_BMA.shape[-1]), dim=-1).indices
    chosen_BMA = torch.zeros_like(candidate_BMA).scatter_(-1, best, True) & candidate_BMA
    # A place of two boxes answers for the one that it meets better.
    preferred_BMA = torch.where(chosen_BMA, overlap_BMA, -1.0)
    owner_BA = preferred_BMA.argmax(1)
    owned_BA = chosen_BMA.any(1)
    chosen_BMA &= F.one_hot(owner_BA, chosen_BMA.shape[1]).transpose(1, 2).bool()
    # The best place of a box learns its best overlap, the others as much less as they are less aligned.
    aligned_BMA = torch.where(chosen_BMA, aligned_BMA, 0.0)
    highest_BM1 = aligned_BMA.amax(-1, keepdim=True).clamp(min=1e-9)
    best_overlap_BM1 = torch.where(chosen_BMA, overlap_BMA, 0.0).amax(-1, keepdim=True)
    targets_BMA = aligned_BMA / highest_BM1 * best_overlap_BM1
    scores_BA = torch.where(owned_BA, targets_BMA.gather(1, owner_BA[:, None])[:, 0], 0.0)
    owner_BA4 = owner_BA[..., None].expand(-1, -1, 4)
    return Assigned(truth.boxes_BM4.gather(1, owner_BA4), truth.labels_BM.gather(1, owner_BA), scores_BA)


def losses(found: Found, truth: Truth) -> tuple[Tensor, Tensor]:
    """Return the loss of the scores and that of the boxes, each divided by the sum of the scores to be reached."""
    assigned = assign(found, truth)
    reached = assigned.scores_BA.sum().clamp(min=1.0)
    wanted_BAK = F.one_hot(assigned.labels_BA, found.logits_BAK.shape[-1]) * assigned.scores_BA[..., None]
    focus_BAK = (found.logits_BAK.detach().sigmoid() - wanted_BAK).abs().pow(_FOCUS)
    scored = F.binary_cross_entropy_with_logits(found.logits_BAK, wanted_BAK, weight=focus_BAK, reduction="sum")
    owned_BA = assigned.scores_BA > 0
    own_P4, true_P4 = found.boxes_BA4[owned_BA], assigned.boxes_BA4[owned_BA]
    apart_P = 1.0 - boxes.generalised_overlap(own_P4, true_P4)
    placed = (apart_P * assigned.scores_BA[owned_BA]).sum()
    return scored / reached, _BOX_WEIGHT * placed / reached


def _candidates(found: Found, truth: Truth) -> Tensor:
    """Return whether a place lies in a box, (B, M, A); of a box without any place, the nearest one."""
    boxes_BM14, centres_A2 = truth.boxes_BM4[:, :, None], found.centres_A2
    inside_BMA = ((centres_A2 > boxes_BM14[..., :2]) & (centres_A2 < boxes_BM14[..., 2:])).all(-1)
    middle_BM12 = (boxes_BM14[..., :2] + boxes_BM14[..., 2:]) / 2
    away_BMA = (centres_A2 - middle_BM12).square().sum(-1)
    nearest_BMA = F.one_hot(away_BMA.argmin(-1), away_BMA.shape[-1]).bool()
    empty_BM1 = ~inside_BMA.any(-1, keepdim=True)
    return (inside_BMA | (nearest_BMA & empty_BM1)) & truth.present_BM[..., None]
