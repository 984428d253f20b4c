"""A fit starts from a head that is not too sure of its rows, whatever penalty cross-validation has chosen."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.backbones.text import TextBackbone
from models.learning.finetuning import splits
from models.learning.heads import first_version, selection
from models.learning.heads.cross_validation import DesignMatrix
from models.learning.heads.linear import Head
from models.learning.heads.selection import Choice
from models.learning.tasks.link_functions import SOFTMAX

ROWS = 40


def _loss(head: Head, features: np.ndarray, targets: np.ndarray) -> float:
    logits_NK = head.logits(features)
    shifted_NK = logits_NK - logits_NK.max(1, keepdims=True)
    return float((np.log(np.exp(shifted_NK).sum(1)) - shifted_NK[np.arange(len(targets)), targets]).mean())


@pytest.mark.parametrize(
    ("chosen", "named", "anew"),
    [(810.0, "auto", True), (10.0, "auto", False), (1.0, "auto", False), (810.0, 0.1, False)],
)
def test_the_penalty_of_the_start(small_backbone: TextBackbone, chosen: float, named: Any, anew: bool) -> None:
    generator = np.random.default_rng(0)
    targets_N = np.arange(ROWS) % 2
    features_ND = (generator.normal(size=(ROWS, 8)) + 0.3 * targets_N[:, None]).astype(np.float32)
    corpus = SimpleNamespace(targets=targets_N)
    run: Any = SimpleNamespace(
        task=SimpleNamespace(link=SOFTMAX),
        outputs=2,
        backbone=small_backbone,
        request=SimpleNamespace(seed=0, hyperparameters=SimpleNamespace(regularization=named)),
        stop=bool,
        extra_rows=None,
        training=SimpleNamespace(features={"mean.6": features_ND}, corpus=corpus),
    )
    choice = Choice("last", ("mean.6",), (("mean.6",),), chosen, False, np.zeros(ROWS), np.zeros((ROWS, 2)))
    table = DesignMatrix(run.training.features, targets_N)
    head = selection.fit_final(table, None, choice, first_version.fit_context(run))
    first: Any = SimpleNamespace(choice=choice, label_names=None, head=head)
    start = splits.start_on_all(run, first)
    assert (start is not head) is anew
    if anew:
        assert _loss(start, features_ND, targets_N) > _loss(head, features_ND, targets_N)
