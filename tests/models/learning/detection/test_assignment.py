from __future__ import annotations

import torch
from torch import Tensor

from models.learning.detection import assignment
from models.learning.detection.assignment import Truth
from models.learning.detection.network import Found

STRIDE = 8


def _truth(*boxes: tuple[float, ...], labels: tuple[int, ...]) -> Truth:
    count = max(1, len(boxes))
    edges = torch.zeros(1, count, 4)
    present = torch.zeros(1, count, dtype=torch.bool)
    for at, box in enumerate(boxes):
        edges[0, at], present[0, at] = torch.tensor(box), True
    return Truth(edges, torch.tensor([[*labels, *[0] * (count - len(labels))]]), present)


def _found(boxes_A4: Tensor | None = None, logits_AK: Tensor | None = None) -> Found:
    """What a detector says on a canvas of 32 × 32: boxes of 8 pixels around every place, if nothing else is given."""
    y_P, x_P = torch.meshgrid((torch.arange(4) + 0.5) * STRIDE, (torch.arange(4) + 0.5) * STRIDE, indexing="ij")
    centres_A2 = torch.stack([x_P.flatten(), y_P.flatten()], -1)
    boxes_A4 = torch.cat([centres_A2 - 4, centres_A2 + 4], -1) if boxes_A4 is None else boxes_A4
    logits_AK = torch.full((16, 2), -3.0) if logits_AK is None else logits_AK
    return Found(logits_AK[None], boxes_A4[None], centres_A2)


def test_places_of_a_box_answer_for_it_and_no_others() -> None:
    assigned = assignment.assign(_found(), _truth((0, 0, 16, 16), labels=(1,)))
    owned = assigned.scores_BA[0].nonzero().flatten().tolist()
    assert owned == [0, 1, 4, 5]
    assert assigned.labels_BA[0, owned].tolist() == [1] * 4
    # All four fit as badly: the best of them is to have its overlap as score.
    assert torch.allclose(assigned.scores_BA[0, owned], torch.tensor(0.25))


def test_a_place_of_two_boxes_answers_for_the_one_that_it_meets() -> None:
    boxes_A4 = _found().boxes_BA4[0].clone()
    boxes_A4[5] = torch.tensor([0.0, 0, 32, 32])
    assigned = assignment.assign(_found(boxes_A4), _truth((0, 0, 32, 32), (8, 8, 16, 16), labels=(0, 1)))
    assert assigned.labels_BA[0, 5] == 0
    assert assigned.scores_BA[0, 5] == 1.0


def test_the_surer_place_learns_the_higher_score() -> None:
    logits_AK = torch.full((16, 2), -3.0)
    logits_AK[4, 1] = 2.0
    assigned = assignment.assign(_found(logits_AK=logits_AK), _truth((0, 0, 16, 16), labels=(1,)))
    assert assigned.scores_BA[0].argmax() == 4


def test_a_box_between_all_places_has_the_nearest_one() -> None:
    assigned = assignment.assign(_found(), _truth((14, 14, 17, 17.5), labels=(0,)))
    assert assigned.scores_BA[0].nonzero().flatten().tolist() == [5]


def test_a_picture_without_boxes_teaches_that_there_is_nothing() -> None:
    quiet = assignment.losses(_found(logits_AK=torch.full((16, 2), -6.0)), _truth(labels=()))
    loud = assignment.losses(_found(logits_AK=torch.full((16, 2), 2.0)), _truth(labels=()))
    assert quiet[1] == loud[1] == 0.0
    assert quiet[0] < 0.01 < loud[0]


def test_losses_fall_as_boxes_and_scores_come_nearer() -> None:
    truth = _truth((0, 0, 16, 16), labels=(1,))
    boxes_A4, logits_AK = _found().boxes_BA4[0].clone(), torch.full((16, 2), -3.0)
    boxes_A4[[0, 1, 4, 5]] = torch.tensor([0.0, 0, 16, 16])
    logits_AK[[0, 1, 4, 5], 1] = 5.0
    far, near = (sum(assignment.losses(found, truth)) for found in (_found(), _found(boxes_A4, logits_AK)))
    assert near < 0.1 < far
