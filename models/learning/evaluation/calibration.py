"""Temperature: one number that makes held-out probabilities honest (arXiv:1706.04599)."""

from __future__ import annotations

import numpy as np
import torch

from models.learning.data.ragged import Ragged, flat
from models.learning.tasks.link_functions import LinkFunction
from models.learning.tasks.task import Floats, Targets

_GOLDEN = (5**0.5 - 1) / 2
_COLDEST, _HOTTEST = -3.0, 3.0  # log T
_MOST_ROWS = 5_000


def probabilities(logits_NK: Floats, link: LinkFunction, temperature: float = 1.0) -> Floats:
    """(N, K) float32."""
    return link.mean_of(logits_NK / np.float32(temperature))


def losses(logits_NK: Floats, targets: Targets | Ragged, link: LinkFunction, temperature: float = 1.0) -> torch.Tensor:
    """Negative log-likelihood of each row, or of each unit of the rows."""
    return link.losses(torch.from_numpy(logits_NK) / temperature, torch.from_numpy(flat(targets)))


def log_loss(logits_NK: Floats, targets: Targets | Ragged, link: LinkFunction, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of a row."""
    return float(losses(logits_NK, targets, link, temperature).mean())


def fit_temperature(logits_NK: Floats, targets: Targets | Ragged, link: LinkFunction) -> float:
    """Return the temperature with the least held-out loss: a convex search over log T by golden sections.

    1 for a link that no temperature suits.
    """
    if not link.tempered:
        return 1.0
    if len(logits_NK) > _MOST_ROWS:  # every so-and-so-many-th row: one number needs no more
        chosen = np.linspace(0, len(logits_NK) - 1, _MOST_ROWS).astype(np.int64)
        logits_NK, targets = logits_NK[chosen], flat(targets)[chosen]
    low, high = _COLDEST, _HOTTEST

    def loss(log_temperature: float) -> float:
        return log_loss(logits_NK, targets, link, float(np.exp(log_temperature)))

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    loss_left, loss_right = loss(left), loss(right)
    while high - low > 0.01:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - _GOLDEN * (high - low)
            loss_left = loss(left)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + _GOLDEN * (high - low)
            loss_right = loss(right)
    return float(np.exp((low + high) / 2))
