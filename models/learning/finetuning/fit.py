"""One fit of a candidate, from a head on the frozen base to its last epoch, with its progress and its cost."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

from torch import Tensor

from models.learning.contract.events import TrainEvent
from models.learning.data.folds import Rows
from models.learning.finetuning import training_loop
from models.learning.finetuning.network import Network, trained_values
from models.learning.finetuning.splits import checkpoints_of, network_of
from models.learning.finetuning.training_loop import Epoch, TrainingRows
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Head
from models.learning.run import Run
from models.learning.search.budget import Budget
from models.learning.search.candidates import Candidate


@dataclass(frozen=True, slots=True)
class Fit:
    """The network after its last epoch, and what its parameters were before the first."""

    network: Network
    start: dict[str, Tensor]
    material: TrainingRows
    epochs: int


def fit(  # noqa: PLR0917
    run: Run,
    first: FirstVersion,
    candidate: Candidate,
    head: Head,
    train: Rows,
    material: TrainingRows,
    clock: Budget,
    label: str,
    *,
    name: str,
    epochs: int | None = None,
    heard: Callable[[Epoch], None] = lambda _: None,
) -> Generator[TrainEvent, None, Fit]:
    """Train on `material`, of which `train` are the rows that the head has seen; `heard` learns of every epoch.

    `epochs` cuts the schedule short, `name` is that of the checkpoints. Raises OverBudget, Diverged.
    """
    network = network_of(run, first, candidate, head, train)
    start = trained_values(network)
    material = material.behind(network, run.backbone, stop=run.stop)
    steps = training_loop.fit(
        network,
        candidate.schedule,
        material,
        run.task.link,
        run.backbone,
        seed=run.request.seed,
        checkpoints=checkpoints_of(run, candidate, name, train),
        stop=run.stop,
        epochs=epochs,
    )
    row = len(material.tokens) * candidate.weight
    of_all = "" if epochs is None else f" of {epochs}"
    epoch = 0
    for step in steps:
        if isinstance(step, Epoch):
            epoch = step.number
            heard(step)
            yield clock.tell(row * epoch, f"{label}, epoch {epoch}{of_all}", loss=step.loss, epoch=float(epoch))
        else:
            yield clock.tell(row * (epoch + step), label)
    run.tokens_used += epoch * sum(len(row) for row in material.tokens)
    clock.done += row * epoch
    return Fit(network, start, material, epoch)
