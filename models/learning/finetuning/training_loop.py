"""The one training loop: what trains is decided by the strategy, what is predicted by the task.

Each batch is cut into two halves of like sizes, whose gradients are computed side by side on one thread each and then
added in a fixed order: the result is the same bits whether one thread or two did it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.backbones.backbone import TokenizedInput
from models.backbones.loading import Backbone
from models.backbones.parallel import in_parallel
from models.learning.adamw import AdamW, share_of_rate
from models.learning.contract.errors import Diverged, Stopped
from models.learning.data.ragged import Ragged, flat
from models.learning.finetuning import contrastive, frozen_activations
from models.learning.finetuning.checkpoints import Checkpoint, Checkpoints
from models.learning.finetuning.network import Network, learning_rates
from models.learning.finetuning.strategies import TrainingConfig
from models.learning.heads.linear import Floats
from models.learning.tasks.link_functions import LinkFunction

_WEIGHT_DECAY = 0.01
_WARM_UP = 0.1  # of all steps
_CLIP = 1.0
_BUCKET = 8  # batches that are sorted by length together
# Tokens of a shard that are differentiated at once, as many as 16 rows of one full window: their activations take 1 GB.
# Rows of several windows come to more; then gradients are added up.
_MICRO_BATCH = 4_096


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch's loss, the mean over rows or words, and answers. `held_logits_NK` is empty if nothing is held out."""

    number: int  # from 1
    loss: float
    held_logits_NK: Floats
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows to train on, and held-out rows to answer after each epoch."""

    tokens: Sequence[TokenizedInput]
    targets: Any  # Targets, or Ragged
    held_tokens: Sequence[TokenizedInput]

    def with_frozen_activations(
        self, network: Network, backbone: Backbone, *, stop: Callable[[], bool]
    ) -> TrainingRows:
        """Return the same rows as the frozen blocks leave them, where that is worth keeping."""
        rows, held = (
            frozen_activations.keep(network, rows, backbone, stop=stop) for rows in (self.tokens, self.held_tokens)
        )
        return TrainingRows(rows, self.targets, held)


@dataclass(frozen=True, slots=True)
class LoopContext:
    """Inputs of a training loop beside the network and its rows."""

    backbone: Backbone
    link: LinkFunction
    seed: int
    stop: Callable[[], bool]
    checkpoints: Checkpoints | None = None
    inverse_penalty: float | None = None  # of a head that is fitted anew; None: the link's default


def train(
    network: Network, config: TrainingConfig, rows: TrainingRows, context: LoopContext, *, epochs: int | None = None
) -> Generator[float | Epoch, None, None]:
    """Train in place; yields the share of an epoch now and then, and an Epoch at the end of each.

    `epochs` ends it earlier without changing the rates. Resumes from the last checkpoint. Raises Stopped, Diverged.
    """
    checkpoints, rates = context.checkpoints, learning_rates(network, config, _WEIGHT_DECAY)
    optimizer = AdamW(network.masters, rates, threads=context.backbone.threads)
    per_epoch = config.passes * math.ceil(len(rows.tokens) / config.batch_size)
    total = per_epoch * config.epochs
    warm_up = max(1, round(_WARM_UP * total))
    done = 0
    history: list[tuple[float, Floats]] = []
    if checkpoints is not None and (found := checkpoints.load()) is not None:
        done, history = found.restore(network, optimizer), list(found.history())
        for number, (loss, logits_NK) in enumerate(history, start=1):
            yield Epoch(number, loss, logits_NK, 0.0)
    network.train_mode()
    for epoch in range(done, epochs or config.epochs):
        began, losses = time.monotonic(), 0.0
        passes = range(epoch * config.passes, (epoch + 1) * config.passes)
        batches = [batch for number in passes for batch in _batches(rows, config, seed=context.seed, number=number)]
        for index, batch in enumerate(batches):
            if context.stop():
                raise Stopped
            batch_loss, gradients = _differentiate(network, rows, batch, context, contrast=config.contrastive)
            share = share_of_rate(epoch * per_epoch + index, total, warm_up=warm_up)
            optimizer.update(gradients, share=share, clip=_CLIP)
            network.take_masters()
            losses += batch_loss
            if index % 4 == 3:
                yield (index + 1) / per_epoch
        loss = losses / (config.passes * len(flat(rows.targets)))
        if not math.isfinite(loss):
            raise Diverged(epoch=epoch + 1, learning_rate=config.learning_rate)
        if config.contrastive:
            _fit_head(network, rows, context)
        logits_NK = predict(network, rows.held_tokens, context.backbone, stop=context.stop)
        history.append((loss, logits_NK))
        if checkpoints is not None:
            checkpoints.save(Checkpoint.capture(optimizer, epoch + 1, history))
        yield Epoch(epoch + 1, loss, logits_NK, time.monotonic() - began)


def predict(
    network: Network, tokens: Sequence[TokenizedInput], backbone: Backbone, *, stop: Callable[[], bool]
) -> Floats:
    """Return logits (N, K) of rows, or of their units, under the network as it is."""
    return _pass(network, tokens, backbone, network.answer, len(network.head_bias), stop=stop)


def _fit_head(network: Network, rows: TrainingRows, context: LoopContext) -> None:
    """Fit the head anew to what the base makes of the training rows now."""
    link, (outputs, width) = context.link, network.head_weight.shape
    standard_NF = _pass(network, rows.tokens, context.backbone, torch.nn.Identity(), width, stop=context.stop)
    inverse = link.default_inverse_penalty if context.inverse_penalty is None else context.inverse_penalty
    network.replace_head(
        contrastive.fit_head(standard_NF, rows.targets, link, outputs=outputs, inverse_penalty=inverse)
    )


def _pass(
    network: Network,
    tokens: Sequence[TokenizedInput],
    backbone: Backbone,
    answer: Callable[[Tensor], Tensor],
    width: int,
    *,
    stop: Callable[[], bool],
) -> Floats:
    """Return what `answer` makes of the standardised features of rows, or of their units: (N, `width`)."""
    counts_N = backbone.units(tokens)
    layout = None if counts_N is None else Ragged.of(np.empty(0), counts_N)
    total = len(tokens) if counts_N is None else int(counts_N.sum())
    found_NW = np.empty((total, width), dtype=np.float32)
    if not tokens:
        return found_NW

    def fill(rows: NDArray[np.int64]) -> None:
        if stop():
            raise Stopped
        with torch.inference_mode():
            features_BF = frozen_activations.standard_features(network, [tokens[row] for row in rows], backbone)
            found_BW = answer(features_BF).float().cpu().numpy()
        found_NW[rows if layout is None else layout.units(rows)] = found_BW

    network.eval()
    plan = backbone.plan([len(row) for row in tokens])
    for _ in in_parallel(fill, plan, threads=backbone.threads):
        pass
    network.train_mode()
    return found_NW


def _differentiate(
    network: Network, rows: TrainingRows, batch: NDArray[np.int64], context: LoopContext, *, contrast: bool
) -> tuple[float, list[tuple[Tensor, ...]]]:
    """Return the summed loss of the rows of one batch, and the gradients of each half in the order of the masters.

    With `contrast` the head has no part in it: each half of the batch, or micro-batch of long rows, is compared with
    itself.
    """
    backbone, link = context.backbone, context.link
    trained = list(network.trained.values())
    # Words, where each has a tag: summed within rows, every step on long ones would be clipped to one length.
    answers = len(flat(rows.targets[batch]))

    def differentiate(shard: NDArray[np.int64]) -> tuple[float, tuple[Tensor, ...]]:
        total, summed = 0.0, tuple[Tensor, ...]()
        for some in _micro_batches(rows.tokens, shard):
            with torch.enable_grad():
                features_BF = frozen_activations.standard_features(
                    network, [rows.tokens[row] for row in some], backbone
                )
                targets = torch.from_numpy(flat(rows.targets[some])).to(backbone.device)
                if contrast:
                    loss = contrastive.losses(network.compared(features_BF), targets).sum()
                else:
                    loss = link.losses(network.answer(features_BF), targets).sum()
                gradients = torch.autograd.grad(loss / answers, trained, materialize_grads=True)
            total += float(loss.detach())
            summed = tuple(map(torch.add, summed, gradients)) if summed else gradients
        return total, tuple(gradient.float() for gradient in summed)

    shards = _halves(rows.tokens, batch) if backbone.device.type == "cpu" else [batch]
    with _attention(backbone):
        results = list(in_parallel(differentiate, shards, threads=backbone.threads))
    return sum(loss for loss, _ in results), [gradients for _, gradients in results]


def _batches(rows: TrainingRows, config: TrainingConfig, *, seed: int, number: int) -> list[NDArray[np.int64]]:
    """Return the shuffled batches of one pass over the rows, of like classes or of like lengths.

    Of lengths: sorted within buckets of some batches, then the batches shuffled.
    """
    tokens, size = rows.tokens, config.batch_size
    if config.contrastive:
        return contrastive.batches(rows.targets, size, seed=seed, number=number)
    generator = np.random.default_rng((seed, number))
    order = generator.permutation(len(tokens))
    lengths = np.fromiter((len(row) for row in tokens), dtype=np.int64, count=len(tokens))
    batches = []
    for start in range(0, len(order), size * _BUCKET):
        bucket = order[start : start + size * _BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        batches += [bucket[at : at + size] for at in range(0, len(bucket), size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def _halves(tokens: Sequence[TokenizedInput], batch: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return two halves of about as many tokens: of each two rows side by side, each gets one. One row is one half."""
    halves: tuple[list[int], list[int]] = ([], [])
    sizes = [0, 0]
    for at in range(0, len(batch), 2):
        lighter = int(sizes[1] < sizes[0])
        pair = sorted(batch[at : at + 2].tolist(), key=lambda row: -len(tokens[row]))
        for row, half in zip(pair, (lighter, 1 - lighter), strict=False):
            halves[half].append(row)
            sizes[half] += len(tokens[row])
    return [np.array(half, dtype=np.int64) for half in halves if half]


def _micro_batches(tokens: Sequence[TokenizedInput], shard: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Divide a shard where its rows, padded to the longest, would have more than `_MICRO_BATCH` tokens."""
    lengths = [len(tokens[row]) for row in shard]
    found, start = [], 0
    for end in range(1, len(shard) + 1):
        if end == len(shard) or (end + 1 - start) * max(lengths[start : end + 1]) > _MICRO_BATCH:
            found.append(shard[start:end])
            start = end
    return found


def _attention(backbone: Backbone) -> AbstractContextManager[object]:
    """Choose plain products on the CPU: with fused attention a step on 32 short texts took 400 ms of CPU, not 240."""
    return sdpa_kernel(SDPBackend.MATH) if backbone.device.type == "cpu" else nullcontext()
