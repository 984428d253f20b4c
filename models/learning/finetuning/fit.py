"""One fit of a training configuration: from a head on the frozen base to its last epoch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from models.learning.data import features
from models.learning.data.folds import Rows
from models.learning.data.ragged import flat, units
from models.learning.finetuning import training_loop
from models.learning.finetuning.checkpoints import Checkpoints
from models.learning.finetuning.network import Network, build, trained_values
from models.learning.finetuning.strategies import TrainingConfig
from models.learning.finetuning.training_loop import Epoch, LoopContext, TrainingRows
from models.learning.heads.encoding import EncodedRun
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
    where, names = units(run.training.corpus.targets, job.train), first.choice.names
    plain = {name: values[where] for name, values in run.training.features.items()}
    features_NF = features.derive(plain, names)
    return build(run.backbone, job.config, names, job.head, features_NF, seed=run.request.seed)


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
