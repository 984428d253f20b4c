"""Activations of frozen blocks are computed once for pictures, and nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.backbones import loading
from models.learning.finetuning import frozen_activations, network, training_loop
from models.learning.finetuning.strategies import FINE_TUNING_STRATEGIES, TrainingConfig
from models.learning.finetuning.training_loop import Epoch, LoopContext, TrainingRows
from models.learning.heads import linear
from models.learning.tasks.link_functions import SOFTMAX
from tests.device import DEVICE
from tests.models.backbones import media_checkpoints
from tests.models.datasets.media_files import picture


@pytest.mark.parametrize("below", [(), ("mean.1",)])
def test_kept_rows_train_alike(tmp_path, below):
    from models.datasets.examples import Media

    entry = media_checkpoints.write(tmp_path, "mobilenet_v2")
    eyes = loading.load(entry, device=DEVICE, precision="fp32", threads=1)
    names = (*below, f"mean.{eyes.blocks}")
    pictures = [Media("", picture("PNG", size=(8 if n % 2 else 40, 40), seed=n)) for n in range(16)]
    targets = np.arange(12) % 2
    material = TrainingRows(eyes.tokenize(pictures[:12]), targets, eyes.tokenize(pictures[12:]))
    features = eyes.encode(pictures[:12], names)
    head = linear.fit_head(features, torch.from_numpy(targets), SOFTMAX, outputs=2, inverse_penalty=1.0)
    config = TrainingConfig(FINE_TUNING_STRATEGIES["partial"], 2, 4, 1e-4, 1e-3, 0, trainable_blocks=2)

    def losses(*, kept: bool) -> list[tuple[float, float]]:
        net = network.build(eyes, config, names, head, features, seed=0)
        rows = material.with_frozen_activations(net, eyes, stop=bool) if kept else material
        assert all(isinstance(row, frozen_activations.KeptRow) for row in rows.tokens) == kept
        steps = training_loop.train(net, config, rows, LoopContext(eyes, SOFTMAX, seed=5, stop=bool))
        return [(step.loss, float(step.held_logits_NK.sum())) for step in steps if isinstance(step, Epoch)]

    np.testing.assert_allclose(losses(kept=True), losses(kept=False), rtol=1e-3, atol=1e-3)
