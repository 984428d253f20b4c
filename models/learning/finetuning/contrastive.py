"""Contrastive learning as in SetFit (Tunstall et al. 2022, arXiv:2209.11055): rows of a class together, others apart.

Every pair of a batch teaches something: sixty rows are hundreds of pairs, where cross-entropy sees sixty answers.
(SetFit draws its pairs one by one.) The head has no part in it, and is fitted anew.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.learning.heads import linear
from models.learning.heads.linear import Floats, Head
from models.learning.tasks.link_functions import LinkFunction

# Rows of a class that lie beside each other in a batch: both of its halves, which are differentiated apart, have pairs.
_TOGETHER = 4


def losses(features_BF: Tensor, classes_B: Tensor) -> Tensor:
    """Return the loss of each row, (B,): the squared error of its cosines with the other rows; 0 where it is alone.

    They should be 1 within a class and 0 between classes.
    """
    unit_BF = functional.normalize(features_BF, dim=1)
    same_BB = classes_B[:, None] == classes_B[None, :]
    errors_BB = unit_BF @ unit_BF.T - same_BB.to(unit_BF.dtype)  # none with itself
    return errors_BB.square().sum(1) / max(len(classes_B) - 1, 1)


def batches(classes_N: NDArray[np.int64], size: int, *, seed: int, number: int) -> list[NDArray[np.int64]]:
    """Return shuffled batches of one pass, in which rows have others of their class, however many classes there are."""
    generator = np.random.default_rng((seed, number))
    groups = []
    for label in np.unique(classes_N):
        rows = generator.permutation(np.flatnonzero(classes_N == label))
        groups += [rows[at : at + _TOGETHER] for at in range(0, len(rows), _TOGETHER)]
    order = np.concatenate([groups[index] for index in generator.permutation(len(groups))])
    return [order[at : at + size] for at in range(0, len(order), size)]


def fit_head(
    standard_NF: Floats, classes_N: NDArray[np.int64], link: LinkFunction, *, outputs: int, inverse_penalty: float
) -> Head:
    """Fit a head to the features as they are now.

    Rows that the features have learned from cannot choose the penalty: held out or not, they lie in their class. What
    the frozen features chose does not suit these: it is a guess on few rows (see decision 0045).
    """
    targets = torch.from_numpy(classes_N)
    return linear.fit_head(standard_NF, targets, link, outputs=outputs, inverse_penalty=inverse_penalty, owned=True)
