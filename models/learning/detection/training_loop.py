"""The training loop: batches of views, the loss of every place, AdamW, and an average of the weights.

Each batch is cut into shards whose gradients are computed side by side on one thread each and added in a fixed order:
the result is the same bits whether one thread or two did it, and whether or not it was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones.maps import PictureBase
from models.backbones.parallel import in_parallel
from models.learning.adamw import AdamW, Rate, share_of_rate
from models.learning.contract.errors import Diverged, Stopped
from models.learning.detection import frozen
from models.learning.detection.checkpoints import Checkpoints, TrainingState
from models.learning.detection.frozen import FrozenView, FrozenViews
from models.learning.detection.model import DetectionModel, copy_weights, put_weights
from models.learning.detection.strategies import TrainingConfig
from models.learning.detection.truth import Truth

_SHARDS = 2
_CLIP = 10.0
_WARM_UP = 30  # steps
_AVERAGED = 100  # steps over which weights are averaged, less at the beginning


@dataclass(frozen=True, slots=True)
class Step:
    """Losses of one step."""

    number: int  # from 1
    score_loss: float
    box_loss: float
    learning_rate: float

    @property
    def loss(self) -> float:
        """The loss that the step has followed."""
        return self.score_loss + self.box_loss


class TrainingLoop:
    """One fit. `run` goes on where it stands; `averaged` gives it the weights to be judged."""

    def __init__(
        self, model: DetectionModel, config: TrainingConfig, backbone: PictureBase, views: FrozenViews, *, seed: int
    ) -> None:
        self.model = model
        self.config = config
        self._backbone = backbone
        self._views = views
        self._seed = seed
        rates = {
            name: Rate(
                config.learning_rate * (1.0 if name.startswith("detector.") else config.base_rate), config.weight_decay
            )
            for name in model.values
        }
        self._optimizer = AdamW(model.values, rates, threads=backbone.threads)
        self._state = TrainingState(dict(model.values), copy_weights(model), self._optimizer)
        self._losses: list[tuple[float, float, float]] = []
        self.seconds = 0.0  # that the steps took, those of earlier attempts included

    @property
    def done(self) -> int:
        """Steps that were taken."""
        return len(self._losses)

    @property
    def steps(self) -> list[Step]:
        """All of them, those of earlier attempts included."""
        return [Step(at, *losses) for at, losses in enumerate(self._losses, start=1)]

    def resume(self, checkpoints: Checkpoints) -> None:
        """Take the last checkpoint, if there is one that is farther on."""
        losses, seconds = checkpoints.load(self._state, beyond=self.done)
        if losses:
            self._losses, self.seconds = list(losses), seconds

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint."""
        checkpoints.save(self._state, self._losses, self.seconds)

    def run(
        self,
        until: int,
        *,
        stop: Callable[[], bool],
        checkpoints: Checkpoints | None = None,
        is_late: Callable[[], bool] = lambda: False,
    ) -> Generator[Step, None, None]:
        """Take the steps up to `until`, or until it `is_late`. Raises Stopped, Diverged."""
        warm_up = min(_WARM_UP, max(1, self.config.steps // 5))
        while self.done < until and not (self.done and is_late()):
            if stop():
                raise Stopped
            began = time.monotonic()
            share = share_of_rate(self.done, self.config.steps, warm_up=warm_up)
            rate = share * self.config.learning_rate
            scored, placed = self._step(self._views.read(self._batch(self.done), stop=stop), share)
            if not math.isfinite(scored + placed):
                raise Diverged(epoch=self.done // self.config.steps_per_epoch + 1, learning_rate=rate)
            self._losses.append((scored, placed, rate))
            self._state.average(min(1 - 1 / _AVERAGED, self.done / (self.done + 9)))
            self.seconds += time.monotonic() - began
            if checkpoints is not None and checkpoints.is_due():
                self.save(checkpoints)
            yield Step(self.done, scored, placed, rate)

    @contextmanager
    def averaged(self) -> Iterator[DetectionModel]:
        """Give the model its averaged weights, for as long as it is judged or written."""
        own = copy_weights(self.model)
        put_weights(self.model, self._state.averaged)
        try:
            yield self.model
        finally:
            put_weights(self.model, own)

    def end(self) -> DetectionModel:
        """Leave the model with its averaged weights; nothing is trained any more."""
        put_weights(self.model, self._state.averaged)
        return self.model

    def _batch(self, step: int) -> list[tuple[int, int]]:
        """Return (picture, view) of a step's batch: every picture once an epoch, in a view that its number draws."""
        config, found = self.config, []
        orders: dict[int, NDArray[np.int64]] = {}  # by epoch: a batch lies in one or two, or more of a few pictures
        for place in range(step * config.batch_size, (step + 1) * config.batch_size):
            epoch, at = divmod(place, config.pictures)
            if epoch not in orders:
                orders[epoch] = np.random.default_rng((self._seed, epoch)).permutation(config.pictures)
            picture = int(orders[epoch][at])
            # The first epochs make the views, each a new one; later ones draw among them.
            number = (
                epoch
                if epoch < config.views
                else int(np.random.default_rng((self._seed, epoch, at)).integers(config.views))
            )
            found.append((picture, number))
        return found

    def _step(self, views: Sequence[FrozenView], share_of_rate: float) -> tuple[float, float]:
        """Update the model on one batch; return its losses."""
        values = list(self.model.values.values())
        shards = range(min(_SHARDS, len(views)))
        share = 1 / len(shards)

        def differentiate(at: int) -> tuple[float, float, tuple[Tensor, ...]]:
            shard = views[at::_SHARDS]
            with torch.enable_grad():
                seed = int(np.random.default_rng((self._seed, self.done, at)).integers(2**31))
                truth = _truth(shard, self._backbone.device)
                scored, placed = self.model.losses(frozen.batch(shard, self._backbone), truth, seed=seed)
                gradients = torch.autograd.grad(share * (scored + placed), values, materialize_grads=True)
            return float(scored.detach()), float(placed.detach()), gradients

        results = list(in_parallel(differentiate, shards, threads=self._backbone.threads))
        self._optimizer.update([gradients for *_, gradients in results], share=share_of_rate, clip=_CLIP)
        return sum(result[0] for result in results) * share, sum(result[1] for result in results) * share


def _truth(views: Sequence[FrozenView], device: torch.device) -> Truth:
    most = max(1, *(len(view.labels_M) for view in views))
    boxes_BM4 = torch.zeros(len(views), most, 4)
    labels_BM = torch.zeros(len(views), most, dtype=torch.int64)
    present_BM = torch.zeros(len(views), most, dtype=torch.bool)
    for at, view in enumerate(views):
        count = len(view.labels_M)
        boxes_BM4[at, :count] = torch.from_numpy(view.boxes_M4)
        labels_BM[at, :count] = torch.from_numpy(view.labels_M)
        present_BM[at, :count] = True
    return Truth(boxes_BM4.to(device), labels_BM.to(device), present_BM.to(device))
