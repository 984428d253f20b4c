"""Supervised contrastive learning: the loss by hand, batches with pairs, a base that comes to tell classes apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.backbones.text import TextBackbone
from models.learning.contract.errors import Stopped
from models.learning.contract.request import Hyperparameters
from models.learning.finetuning import contrastive, network, training_loop
from models.learning.finetuning.checkpoints import Checkpoints
from models.learning.finetuning.network import Network
from models.learning.finetuning.strategies import CONTRASTIVE, settle
from models.learning.finetuning.training_loop import Epoch, LoopContext, TrainingRows
from models.learning.heads import linear
from models.learning.tasks.link_functions import SOFTMAX

NAMES = ("unit_mean.6",)
# One word of four tells them apart, which a base of random weights sees clearly only after it was trained.
WORDS = ("refund", "invoice")
FILLERS = ("the", "order", "please", "my", "want", "today", "about", "from", "account", "thanks", "again", "not", "for")
# A base that knows nothing has more to learn than a pretrained one.
CONFIG = settle(CONTRASTIVE, Hyperparameters(learning_rate=1e-3, n_epochs=7), rows=48, blocks=6)


def test_the_loss_is_the_error_of_the_cosines() -> None:
    # Two rows in one direction, the third at 60 degrees: cosines 1 and 1/2.
    features_BF = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
    alike = contrastive.losses(features_BF, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(alike, torch.tensor([0.125, 0.125, 0.25]))
    swapped = contrastive.losses(features_BF, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(swapped, torch.tensor([0.625, 0.625, 0.25]))


def test_a_row_alone_has_no_loss_and_no_gradient() -> None:
    features_BF = torch.ones(1, 3, requires_grad=True)
    loss = contrastive.losses(features_BF, torch.tensor([0])).sum()
    loss.backward()
    torch.testing.assert_close(loss.detach(), torch.tensor(0.0))
    torch.testing.assert_close(features_BF.grad, torch.zeros(1, 3))


@pytest.mark.parametrize(("size", "most_alone"), [(16, 0.3), (64, 0.25)])
@pytest.mark.parametrize(("classes", "of_each"), [(6, 10), (77, 10), (2, 8)])
def test_each_half_of_a_batch_has_pairs(classes: int, of_each: int, size: int, most_alone: float) -> None:
    classes_N = np.arange(classes * of_each) % classes
    found = contrastive.batches(classes_N, size, seed=0, number=0)
    assert sorted(np.concatenate(found)) == list(range(len(classes_N)))
    halves = [classes_N[batch[part::2]] for batch in found for part in range(2)]
    alone = sum((np.bincount(half) == 1).sum() for half in halves)
    assert alone <= most_alone * len(classes_N)
    other = contrastive.batches(classes_N, size, seed=0, number=1)
    assert not all(np.array_equal(one, two) for one, two in zip(found, other, strict=True))


@pytest.fixture(scope="module")
def rows(small_backbone: TextBackbone) -> TrainingRows:
    generator = np.random.default_rng(0)
    targets = np.arange(108) % 2
    texts = []
    for target in targets:
        words = [*generator.choice(FILLERS, 3), WORDS[target]]
        texts.append(" ".join(generator.permutation(words)))
    tokens = small_backbone.tokenize(texts)
    return TrainingRows(tokens[:48], targets[:48], tokens[48:])


@pytest.fixture
def fresh(small_backbone: TextBackbone, rows: TrainingRows) -> Callable[[], Network]:
    features = small_backbone.encode_tokens(rows.tokens, NAMES)
    head = linear.fit_head(features, torch.from_numpy(rows.targets), SOFTMAX, outputs=2, inverse_penalty=10.0)
    return lambda: network.build(small_backbone, CONFIG, NAMES, head, features, seed=0)


def _fit(
    net: Network,
    rows: TrainingRows,
    backbone: TextBackbone,
    *,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Epoch]:
    context = LoopContext(backbone, SOFTMAX, seed=5, stop=stop, checkpoints=checkpoints)
    return [step for step in training_loop.train(net, CONFIG, rows, context) if isinstance(step, Epoch)]


@pytest.mark.slow
def test_held_rows_that_the_head_cannot_tell_apart_are_answered(
    small_backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[], Network]
) -> None:
    held = np.arange(60) % 2
    net = fresh()
    before = training_loop.predict(net, rows.held_tokens, small_backbone, stop=lambda: False)
    epochs = _fit(net, rows, small_backbone)
    after = epochs[-1].held_logits_NK
    assert epochs[-1].loss < epochs[0].loss
    assert (after.argmax(1) == held).mean() >= (before.argmax(1) == held).mean() + 0.05
    # The head that is kept is the one that answered.
    logits = training_loop.predict(net, rows.held_tokens, small_backbone, stop=lambda: False)
    np.testing.assert_array_equal(logits, after)


@pytest.mark.slow
def test_resumed_equals_uninterrupted(
    small_backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[], Network], tmp_path: Path
) -> None:
    whole, resumed = fresh(), fresh()
    expected = _fit(whole, rows, small_backbone)
    asked = 0

    def after_some_epochs() -> bool:
        nonlocal asked
        asked += 1
        return asked > 30

    store = [Checkpoints(tmp_path / "fit", "this fit", every_s=0) for _ in range(2)]
    with pytest.raises(Stopped):
        _fit(fresh(), rows, small_backbone, checkpoints=store[0], stop=after_some_epochs)
    found = _fit(resumed, rows, small_backbone, checkpoints=store[1])
    assert found[0].seconds == 0.0  # read from the checkpoint, not trained again
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one.held_logits_NK, two.held_logits_NK)
    for name, value in whole.masters.items():
        assert torch.equal(value, resumed.masters[name]), name


def test_rows_are_compared_by_the_deepest_mean_as_it_was(small_backbone: TextBackbone, rows: TrainingRows) -> None:
    names = ("unit_max.6", "unit_mean.6", "unit_mean.3")
    features_NF = small_backbone.encode_tokens(rows.tokens, names)
    head = linear.fit_head(features_NF, torch.from_numpy(rows.targets), SOFTMAX, outputs=2, inverse_penalty=10.0)
    net = network.build(small_backbone, CONFIG, names, head, features_NF, seed=0)
    standard_NF = (torch.from_numpy(features_NF) - net.mean_F) / net.scale_F
    expected = torch.from_numpy(small_backbone.encode_tokens(rows.tokens, NAMES))
    torch.testing.assert_close(net.compared(standard_NF), expected)
