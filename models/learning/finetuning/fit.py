"""One fit of a training configuration: from a head on the frozen base to its last epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from models.learning.data import features
from models.learning.data.folds import Rows
from models.learning.data.ragged import flat, units
from models.learning.finetuning import training_loop
from models.learning.finetuning.checkpoints import Checkpoints
from models.learning.finetuning.network import Network, build, trained_values
from models.learning.finetuning.strategies import TrainingConfig
from models.learning.finetuning.training_loop import Epoch, LoopContext, TrainingRows
from models.learning.heads.encoding import EncodedRun, asked_features
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Head


@dataclass(frozen=True, slots=True)
class FitJob:
    """A fit to run. `rows` are trained on; the head was fitted to the rows `train` of the training file alone."""

    candidate: str
    name: str  # of this fit among the candidate's: its checkpoints are kept under both names
    config: TrainingConfig
    head: Head
    train: Rows
    rows: TrainingRows
    epochs: int | None = None  # ends the fit earlier without changing the rates
    number: int = 0  # of fits of the same rows: each takes them in an order of its own


@dataclass(frozen=True, slots=True)
class Fit:
    """The network after its last epoch, and its parameters before the first."""

    network: Network
    start: dict[str, Tensor]
    rows: TrainingRows
    epochs: int


def fit(run: EncodedRun, first: FirstVersion, job: FitJob) -> Generator[float | Epoch, None, Fit]:
    """Train; yields the share of an epoch now and then, and an Epoch at the end of each. Raises Stopped, Diverged.

    The first share is 0, as soon as the network is ready: what it took until then does not grow with the epochs.
    """
    network = _network(run, first, job)
    start = trained_values(network)
    rows = job.rows.with_frozen_activations(network, run.backbone, stop=run.stop)
    context = LoopContext(
        run.backbone,
        run.task.link,
        run.request.seed + job.number,
        run.stop,
        _checkpoints(run, job),
        inverse_penalty=None if run.request.hyperparameters.regularization == "auto" else first.choice.inverse_penalty,
    )
    yield 0.0
    done = 0
    for step in training_loop.train(network, job.config, rows, context, epochs=job.epochs):
        if isinstance(step, Epoch):
            done = step.number
        yield step
    return Fit(network, start, rows, done)


def _network(run: EncodedRun, first: FirstVersion, job: FitJob) -> Network:
    """Build a network that starts as the base with the job's head, standardised by the rows that the head has seen."""
    where, (names, head) = units(run.training.corpus.targets, job.train), _start(run, first, job)
    plain = {name: run.training.features[name][where] for name in features.plain(names)}
    return build(run.backbone, job.config, names, head, features.derive(plain, names), seed=run.request.seed)


def _start(run: EncodedRun, first: FirstVersion, job: FitJob) -> tuple[tuple[str, ...], Head]:
    """Return the head to begin with, and its features: where rows are contrasted, the base's default ones.

    What the frozen features chose is a guess on few rows, and depths that hardly move dilute the one that learns: five
    draws of sixty questions ended at 0.805 on the first version's features, and 0.839 on these (decision 0045).
    """
    names = first.choice.names
    if not job.config.contrastive or asked_features(run.request, run.backbone):
        return names, job.head
    names = next(iter(run.backbone.feature_sets().values()))
    width = sum(features.width(run.training.features, name) for name in names)
    # It is fitted anew before it answers.
    return names, Head(np.zeros((run.outputs, width), dtype=np.float32), np.zeros(run.outputs, dtype=np.float32))


def _checkpoints(run: EncodedRun, job: FitJob) -> Checkpoints | None:
    """Return the checkpoints of the fit, None if the request has no folder for them."""
    folder = run.request.checkpoint_dir
    if folder is None:
        return None
    what = {
        "rows": run.training.corpus.digest,
        "of_them": hashlib.sha256(job.train.tobytes()).hexdigest(),
        "targets": hashlib.sha256(flat(run.training.corpus.targets).tobytes()).hexdigest(),
        "base": run.backbone.revision,
        "precision": str(run.backbone.dtype),
        "windowing": repr(run.backbone.windowing),
        "config": repr(job.config),
        "seed": run.request.seed,
        "fit": job.name,
        "number": job.number,
    }
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return Checkpoints(folder / f"{job.candidate}-{job.name}", fingerprint)
