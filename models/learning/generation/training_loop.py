"""The training loop: rows packed end to end, the loss on what is to be learned of them, and nothing else computed.

Each batch is cut into shards of like sizes, whose gradients are computed side by side on one thread each and then added
in a fixed order: the result is the same bits whether one thread or two did it, and whether or not it was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from models.backbones.parallel import in_parallel
from models.learning.adamw import AdamW, Rate, share_of_rate
from models.learning.contract.errors import Diverged, Stopped
from models.learning.generation.checkpoints import Checkpoint, Checkpoints
from models.learning.generation.network import WritingNetwork
from models.learning.generation.packing import pack
from models.learning.generation.rows import TokenRow, shared_prefix
from models.learning.generation.strategies import TrainingConfig

_WARM_UP = 0.06  # of all steps
_CLIP = 1.0
_SHARDS = 2
_SHARD_TOKENS = 1_024  # of one pass with gradients: 30 blocks keep 0.6 MB of each token in bf16
_PATIENCE = 2  # measurements without a lower loss, then the fit ends
_LOWER = 1e-3  # what counts as lower


@dataclass(frozen=True, slots=True)
class Pair:
    """A better and a worse answer to the same messages, and how probable the base finds each."""

    better: TokenRow
    worse: TokenRow
    margin: float  # of the base's log-probabilities

    def __len__(self) -> int:
        return len(self.better) + len(self.worse)


Rows = Sequence[TokenRow] | Sequence[Pair]


@dataclass(frozen=True, slots=True)
class Measure:
    """Loss per token, and the share of tokens that are the likeliest.

    Of pairs: DPO's loss per pair, and the share of pairs whose reward margin is positive (an equal one counts as wrong,
    so that it is 0 before anything was learned, but for rounding).
    """

    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step's loss and accuracy, as in `Measure`, and those on held-out rows where they were measured."""

    number: int  # from 1
    total: int
    loss: float
    learning_rate: float
    seconds: float
    tokens: int
    held_loss: float | None = None
    accuracy: float | None = None
    held_accuracy: float | None = None
    replayed: bool = False  # by an earlier attempt


def train(
    network: WritingNetwork,
    config: TrainingConfig,
    rows: Rows,
    measure: Callable[[], Measure],
    *,
    seed: int,
    threads: int,
    stop: Callable[[], bool],
    checkpoints: Checkpoints | None = None,
    deadline: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, None]:
    """Train in place; yields every step, and leaves the values of the lowest held-out loss that `measure` returned.

    Ends early when that loss stops falling, or at the `deadline`. Raises Stopped, Diverged.
    """
    values = network.values
    rate = Rate(config.learning_rate, weight_decay=0.0)
    optimizer = AdamW(values, dict.fromkeys(values, rate), threads=threads)
    per_epoch = math.ceil(len(rows) / config.batch_size)
    total = per_epoch * config.epochs
    warm_up = max(1, round(_WARM_UP * total))
    every = max(1, math.ceil(per_epoch / 2))
    progress = _Progress(values)
    done = 0
    if checkpoints is not None and (found := checkpoints.load()) is not None:
        optimizer.restore(found.tensors)
        done = found.step
        progress.restore(found)
        for entry in progress.steps:
            yield Step(total=total, seconds=0.0, replayed=True, **entry)
    for number in range(done, total):
        if stop():
            raise Stopped
        if progress.is_over() or (number and deadline()):
            break
        began = time.monotonic()
        epoch, at = divmod(number, per_epoch)
        batch = _order(len(rows), seed, epoch)[at * config.batch_size : (at + 1) * config.batch_size]
        made, tokens, gradients = _differentiate(network, [rows[row] for row in batch], config, threads, stop=stop)
        share = share_of_rate(number, total, warm_up=warm_up)
        optimizer.update(gradients, share=share, clip=_CLIP)
        if not math.isfinite(made.loss):
            raise Diverged(epoch=epoch + 1, learning_rate=config.learning_rate)
        held = measure() if (number + 1) % every == 0 or number + 1 == total else None
        entry = _entry(number + 1, share * rate.learning_rate, tokens, made, held)
        progress.add(entry)
        if checkpoints is not None and checkpoints.is_due():
            checkpoints.save(Checkpoint(number + 1, progress.tensors(optimizer), progress.as_json()))
        yield Step(total=total, seconds=time.monotonic() - began, **entry)
    if progress.best_at == 0:
        progress.keep(measure().loss)
    progress.put_best()


def _entry(number: int, rate: float, tokens: int, found: Measure, held: Measure | None) -> dict[str, Any]:
    """Return a step as a checkpoint keeps it."""
    step: dict[str, Any] = {"number": number, "learning_rate": rate, "tokens": tokens}
    step.update(loss=found.loss, accuracy=found.accuracy)
    step.update(held_loss=None if held is None else held.loss, held_accuracy=None if held is None else held.accuracy)
    return step


class _Progress:
    """Losses so far, and the values of the lowest held-out one."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self._values = values
        self._best: dict[str, Tensor] = {}
        self._best_loss = math.inf
        self._without_gain = 0
        self.best_at = 0
        self.steps: list[dict[str, Any]] = []

    def add(self, entry: dict[str, Any]) -> None:
        self.steps.append(entry)
        held = entry["held_loss"]
        if held is None:
            return
        self._without_gain = 0 if held < self._best_loss - _LOWER else self._without_gain + 1
        if held < self._best_loss:
            self.keep(held)

    def keep(self, held: float) -> None:
        self._best = {name: value.detach().clone() for name, value in self._values.items()}
        self._best_loss, self.best_at = held, len(self.steps)

    def is_over(self) -> bool:
        return self._without_gain >= _PATIENCE

    def put_best(self) -> None:
        for name, value in self._best.items():
            self._values[name].data.copy_(value)

    def tensors(self, optimizer: AdamW) -> dict[str, Tensor]:
        best = {f"best.{name}": value for name, value in self._best.items()}
        return {**optimizer.capture(), **best}

    def as_json(self) -> dict[str, Any]:
        loss = self._best_loss if math.isfinite(self._best_loss) else None
        return {"steps": self.steps, "best": loss, "best_at": self.best_at, "without_gain": self._without_gain}

    def restore(self, found: Checkpoint) -> None:
        history = found.history
        self.steps = list(history["steps"])
        self._best_loss = math.inf if history["best"] is None else float(history["best"])
        self.best_at, self._without_gain = int(history["best_at"]), int(history["without_gain"])
        self._best = {
            name: found.tensors[f"best.{name}"].to(value.device)
            for name, value in self._values.items()
            if f"best.{name}" in found.tensors
        }


def _differentiate(
    network: WritingNetwork,
    batch: list[Any],
    config: TrainingConfig,
    threads: int,
    *,
    stop: Callable[[], bool],
) -> tuple[Measure, int, list[tuple[Tensor, ...]]]:
    """Return how the network does on one batch, how many tokens were read, and the gradients of each shard."""
    values = list(network.values.values())
    device = network.decoder.head.weight.device
    weight = len(batch) if config.beta else sum(row.learned for row in batch)

    def differentiate(shard: list[Any]) -> tuple[float, int, tuple[Tensor, ...]]:
        with torch.enable_grad():
            if config.beta:
                losses, right = _pair_losses(network, shard, config.beta, stop)
            else:
                losses, right = network.losses(pack(shard, shared_prefix(shard), device), stop=stop)
            gradients = torch.autograd.grad(losses.sum() / max(weight, 1), values, materialize_grads=True)
        return float(losses.detach().sum()), int(right.sum()), gradients

    shards = _shards(batch, _SHARD_TOKENS, count=_SHARDS if device.type == "cpu" else 1)
    results = list(in_parallel(differentiate, shards, threads=threads))
    loss, right = sum(found[0] for found in results), sum(found[1] for found in results)
    made = Measure(loss / max(weight, 1), right / max(weight, 1))
    return made, sum(map(len, batch)), [gradients for *_, gradients in results]


def _pair_losses(
    network: WritingNetwork, pairs: Sequence[Pair], beta: float, stop: Callable[[], bool]
) -> tuple[Tensor, Tensor]:
    """Return DPO's loss of each pair, and whether its reward margin is positive, (P,).

    The margin: how much the better answer gained on the worse, against the base. The base's own preference is no part
    of it.
    """
    rows = [row for pair in pairs for row in (pair.better, pair.worse)]
    packed = pack(rows, shared_prefix(rows), network.decoder.head.weight.device)
    losses_M, _ = network.losses(packed, stop=stop)
    log_B = losses_M.new_zeros(len(rows)).index_add(0, packed.rows_M, -losses_M)
    base_P = torch.tensor([pair.margin for pair in pairs], device=losses_M.device)
    margin_P = log_B[0::2] - log_B[1::2]
    reward_P = beta * (margin_P - base_P)
    return -F.logsigmoid(reward_P), reward_P.detach() > 0


def _shards(batch: list[Any], size: int, *, count: int) -> list[list[Any]]:
    """Return the rows in shards of about equal tokens, `count` of them or as many as keep each below `size`."""
    wanted = max(count, math.ceil(sum(map(len, batch)) / size))
    shards: list[list[Any]] = [[] for _ in range(min(wanted, len(batch)))]
    loads = [0] * len(shards)
    for row in sorted(batch, key=len, reverse=True):
        lightest = loads.index(min(loads))
        shards[lightest].append(row)
        loads[lightest] += len(row)
    return shards


def _order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng((seed, epoch)).permutation(rows)
