"""The training loop and its checkpoints: losses fall, the bits do not depend on threads or interruptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifacts.parts import pack
from models.backbones.text import TextBackbone
from models.backbones.words import WordBackbone
from models.learning.contract.errors import Diverged, Stopped
from models.learning.data.ragged import Ragged
from models.learning.finetuning import network, training_loop
from models.learning.finetuning.checkpoints import Checkpoints
from models.learning.finetuning.network import Network
from models.learning.finetuning.strategies import FINE_TUNING_STRATEGIES, TrainingConfig
from models.learning.finetuning.training_loop import Epoch, LoopContext, TrainingRows
from models.learning.heads import linear
from models.learning.tasks.link_functions import SOFTMAX

Rows = list[tuple[str, str]]
NAMES = ("unit_mean.6",)
CONFIG = TrainingConfig(
    FINE_TUNING_STRATEGIES["lora"], epochs=3, batch_size=8, learning_rate=1e-3, head_learning_rate=1e-3, lora_rank=2,
    trainable_blocks=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone(small_backbone: TextBackbone) -> TextBackbone:
    return small_backbone


@pytest.fixture(scope="module")
def rows(backbone: TextBackbone, few: Rows) -> TrainingRows:
    labels = sorted({label for _, label in few})
    targets = np.array([labels.index(label) for _, label in few[:24]])
    tokens = backbone.tokenize([text for text, _ in few])
    return TrainingRows(tokens[:24], targets, tokens[24:32])


@pytest.fixture
def fresh(backbone: TextBackbone, rows: TrainingRows) -> Callable[[TrainingConfig], Network]:
    features = backbone.encode_tokens(rows.tokens, NAMES)
    head = linear.fit_head(features, torch.from_numpy(rows.targets), SOFTMAX, outputs=8, inverse_penalty=1.0)
    return lambda config: network.build(backbone, config, NAMES, head, features, seed=0)


def _fit(
    net: Network,
    rows: TrainingRows,
    backbone: TextBackbone | WordBackbone,
    *,
    config: TrainingConfig = CONFIG,
    checkpoints: Checkpoints | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Epoch]:
    context = LoopContext(backbone, SOFTMAX, seed=5, stop=stop, checkpoints=checkpoints)
    steps = training_loop.train(net, config, rows, context)
    return [step for step in steps if isinstance(step, Epoch)]


def test_gradients_of_divided_batches_are_added_up(
    backbone: TextBackbone,
    rows: TrainingRows,
    fresh: Callable[[TrainingConfig], Network],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = replace(CONFIG, epochs=1)
    together = _fit(fresh(config), rows, backbone, config=config)
    monkeypatch.setattr(training_loop, "_MICRO_BATCH", max(map(len, rows.tokens)))  # hardly more than a row at a time
    divided = _fit(fresh(config), rows, backbone, config=config)
    # Rounding in bf16 moves AdamW's first steps; gradients that were not added up would give another loss altogether.
    assert divided[0].loss == pytest.approx(together[0].loss, rel=0.02)
    assert np.array_equal(divided[0].held_logits_NK.argmax(1), together[0].held_logits_NK.argmax(1))


def test_gradients_and_losses_are_the_mean_over_words(backbone: TextBackbone) -> None:
    """Not their sum in each row, of which every step of long rows would be clipped to one length.

    The loss of an epoch can be laid over the held-out one, which is a mean over words, too.
    """
    words = WordBackbone(backbone)
    tokens = words.tokenize(["Ann saw Rome", "the quick brown fox jumps over the lazy dog near Oslo", "it rained"])
    counts = np.array([len(row.spans_W2) for row in tokens])
    tags = np.random.default_rng(0).integers(0, 3, counts.sum())
    names = ("word.6",)
    features = words.encode_tokens(tokens, names)
    head = linear.Head(np.zeros((3, features.shape[1]), np.float32), np.zeros(3, np.float32))
    net = network.build(words, CONFIG, names, head, features, seed=0)
    rows = TrainingRows(tokens, Ragged.of(tags, counts), [])
    context = LoopContext(words, SOFTMAX, seed=5, stop=lambda: False)
    _, halves = training_loop._differentiate(net, rows, np.arange(3), context, contrast=False)
    gradients = dict(zip(net.trained, (sum(parts) for parts in zip(*halves, strict=True)), strict=True))
    wrong_UK = np.full((len(tags), 3), 1 / 3) - np.eye(3)[tags]
    assert gradients["head_bias"].numpy() == pytest.approx(wrong_UK.mean(0), abs=1e-4)
    still = replace(CONFIG, epochs=1, learning_rate=0.0, head_learning_rate=0.0)
    (epoch,) = _fit(net, rows, words, config=still)
    assert epoch.loss == pytest.approx(np.log(3), abs=1e-4)


def test_loss_falls_and_held_rows_are_answered(
    backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[TrainingConfig], Network]
) -> None:
    epochs = _fit(fresh(CONFIG), rows, backbone)
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert epochs[-1].loss < epochs[0].loss
    assert epochs[-1].held_logits_NK.shape == (8, 8)


def test_starts_from_the_fitted_head(
    backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[TrainingConfig], Network]
) -> None:
    net = fresh(CONFIG)
    logits = training_loop.predict(net, rows.held_tokens, backbone, stop=lambda: False)
    expected = net.head().logits(backbone.encode_tokens(rows.held_tokens, NAMES))
    np.testing.assert_allclose(logits, expected, atol=0.05, rtol=0.02)  # two ways through the base in bf16


def test_resumed_equals_uninterrupted(
    backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[TrainingConfig], Network], tmp_path: Path
) -> None:
    whole = fresh(CONFIG)
    expected = _fit(whole, rows, backbone)

    store = Checkpoints(tmp_path / "fit", "this fit", every_s=0)
    steps = 0

    def after_first_epoch() -> bool:
        nonlocal steps
        steps += 1
        return steps > 5  # three batches an epoch, one question for the held-out rows

    with pytest.raises(Stopped):
        _fit(fresh(CONFIG), rows, backbone, checkpoints=store, stop=after_first_epoch)
    resumed = fresh(CONFIG)
    found = _fit(resumed, rows, backbone, checkpoints=Checkpoints(tmp_path / "fit", "this fit", every_s=0))
    assert [epoch.number for epoch in found] == [1, 2, 3]
    assert found[0].seconds == 0.0  # read from the checkpoint, not trained again
    for one, two in zip(found, expected, strict=True):
        assert np.array_equal(one.held_logits_NK, two.held_logits_NK)
    for name, value in whole.masters.items():
        assert torch.equal(value, resumed.masters[name]), name


@pytest.mark.parametrize("damage", ["other fit", "bit flipped", "no manifest"])
def test_a_foreign_or_damaged_checkpoint_is_not_used(
    backbone: TextBackbone,
    rows: TrainingRows,
    fresh: Callable[[TrainingConfig], Network],
    tmp_path: Path,
    damage: str,
) -> None:
    short = replace(CONFIG, epochs=1)
    _fit(fresh(short), rows, backbone, config=short, checkpoints=Checkpoints(tmp_path / "fit", "this", every_s=0))
    state = tmp_path / "fit" / "state.safetensors"
    if damage == "bit flipped":
        content = bytearray(state.read_bytes())
        content[-1] ^= 1
        state.write_bytes(content)
    if damage == "no manifest":
        (tmp_path / "fit" / "manifest.json").unlink()
    assert Checkpoints(tmp_path / "fit", "other" if damage == "other fit" else "this").load() is None


def test_half_way_back_is_the_mean(
    backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[TrainingConfig], Network]
) -> None:
    config = replace(CONFIG, strategy=FINE_TUNING_STRATEGIES["partial"], lora_rank=0, trainable_blocks=1, epochs=1)
    net = fresh(config)
    start = network.trained_values(net)
    _fit(net, rows, backbone, config=config)
    end = network.trained_values(net)
    network.blend(net, start, 0.5)
    for name, value in net.masters.items():
        torch.testing.assert_close(value, (start[name] + end[name]) / 2)
    assert set(pack(network.own_parts(net, config, torch.bfloat16))) == {
        name.replace("encoder.blocks.", "block.") for name in start if name.startswith("encoder")
    }


def test_halves_of_a_batch_have_like_numbers_of_tokens() -> None:
    """Of each two rows side by side each half gets one: rows that are contrasted lie beside others of their class."""
    lengths = np.random.default_rng(0).integers(3, 40, 200)
    tokens = [np.zeros(length, dtype=np.int32) for length in lengths]
    batch = np.random.default_rng(1).permutation(200)[:15]
    halves = training_loop._halves(tokens, batch)
    assert sorted(np.concatenate(halves)) == sorted(batch)
    for at in range(0, 14, 2):
        assert {int(np.isin(batch[at], half)) + int(np.isin(batch[at + 1], half)) for half in halves} == {1}
    assert abs(lengths[halves[0]].sum() - lengths[halves[1]].sum()) <= 40
    assert [half.tolist() for half in training_loop._halves(tokens, batch[:1])] == [[batch[0]]]


def test_threads_do_not_change_the_bits(
    backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[TrainingConfig], Network]
) -> None:
    alone, together = fresh(CONFIG), fresh(CONFIG)
    _fit(alone, rows, backbone)
    threads, backbone.threads = backbone.threads, 2
    try:
        _fit(together, rows, backbone)
    finally:
        backbone.threads = threads
    for name, value in alone.masters.items():
        assert torch.equal(value, together.masters[name]), name


def test_divergence_is_raised(
    backbone: TextBackbone, rows: TrainingRows, fresh: Callable[[TrainingConfig], Network]
) -> None:
    net = fresh(CONFIG)
    net.masters["head_bias"].fill_(torch.nan)
    net.take_masters()
    with pytest.raises(Diverged, match="epoch 1"):
        _fit(net, rows, backbone)
