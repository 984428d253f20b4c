from __future__ import annotations

import torch
from torch import Tensor

from models.learning.detection import boxes


def _random(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    sizes = torch.rand(count, 2, generator=generator) * 30 + 2
    scores = torch.randint(0, 40, (count,), generator=generator) / 40  # with ties
    return torch.cat([corners, corners + sizes], 1), scores, torch.randint(0, 3, (count,), generator=generator)


def _greedy(boxes_M4: Tensor, scores_M: Tensor, labels_M: Tensor, threshold: float) -> list[int]:
    """The textbook's loop."""
    kept: list[int] = []
    for index in torch.argsort(scores_M, descending=True, stable=True).tolist():
        rivals = [other for other in kept if labels_M[other] == labels_M[index]]
        if all(float(boxes.overlap(boxes_M4[index], boxes_M4[other])[0]) <= threshold for other in rivals):
            kept.append(index)
    return kept


def test_all_pairs_at_once_keep_what_the_greedy_loop_keeps() -> None:
    for seed in range(10):
        found = _random(80, seed)
        kept = boxes.suppress(*found, threshold=0.3).tolist()
        assert kept == _greedy(*found, 0.3)
        assert 0 < len(kept) < 80


def test_no_boxes_are_none() -> None:
    nothing = torch.empty(0)
    assert len(boxes.suppress(torch.empty(0, 4), nothing, nothing.long(), threshold=0.5)) == 0


def test_overlaps() -> None:
    one, other, far = (torch.tensor(edges) for edges in ([0.0, 0, 10, 10], [5.0, 0, 15, 10], [30.0, 0, 40, 10]))
    assert boxes.overlap(one, other)[0].item() == torch.tensor(50 / 150)
    assert boxes.generalised_overlap(one, one).item() == 1.0
    assert boxes.generalised_overlap(one, other).item() == torch.tensor(1 / 3)  # the hull is the union
    assert boxes.generalised_overlap(one, far).item() == -0.5  # 20 of the hull's 40 are neither's
