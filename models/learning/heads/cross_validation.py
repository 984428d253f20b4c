"""Cross-validation of one set of features: a head fitted to every fold, and its logits of the held-out rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones.parallel import in_parallel
from models.learning.contract.errors import Stopped
from models.learning.data import features as frozen
from models.learning.data.folds import splits
from models.learning.data.ragged import Ragged, flat, join, units
from models.learning.evaluation import calibration
from models.learning.heads import linear, ngrams
from models.learning.heads.linear import Floats
from models.learning.tasks.task import EncoderTask, Targets


@dataclass(frozen=True, slots=True)
class DesignMatrix:
    """Plain features by name, (N, D) each, and targets; with Ragged targets N counts the units of all rows."""

    features: Mapping[str, Floats]
    targets: Any  # Targets, or Ragged

    def take(self, rows: NDArray[np.int64]) -> DesignMatrix:
        """Return some rows, in this order."""
        where = units(self.targets, rows)
        return DesignMatrix({name: values[where] for name, values in self.features.items()}, self.targets[rows])

    def with_rows(self, other: DesignMatrix) -> DesignMatrix:
        """Return these rows and those of `other` after them."""
        return DesignMatrix(
            {name: np.concatenate([values, other.features[name]]) for name, values in self.features.items()},
            join([self.targets, other.targets]),
        )


@dataclass(frozen=True, slots=True)
class CrossValidationResult:
    """One feature set at one penalty, and its score and loss on held-out rows."""

    features: str
    inverse_penalty: float
    label_names: bool
    score: float
    log_loss: float  # at its best temperature
    rows: int
    by_score: bool = False  # the loss is of words, nearly all of them outside of spans: it says little of F1


@dataclass(frozen=True, slots=True)
class FitContext:
    """Settings that all fits of one run's heads share."""

    task: EncoderTask
    outputs: int
    device: torch.device
    threads: int
    seed: int
    stop: Callable[[], bool]
    characters: int = ngrams.most_characters(None)  # of a text from which n-grams are read

    def check_stop(self) -> None:
        """Raise Stopped if the caller asked for it."""
        if self.stop():
            raise Stopped


class CrossValidation:
    """One feature set, prepared once; each run fits every fold, starting from the weights of the last penalty."""

    def __init__(  # noqa: PLR0917
        self,
        table: DesignMatrix,
        label_names: DesignMatrix | None,
        name: str,
        members: Sequence[Sequence[str]],
        fold_N: NDArray[np.int64],
        context: FitContext,
    ) -> None:
        self._name, self._named, self._context = name, label_names is not None, context
        self._targets = table.targets
        if label_names is not None:
            table = table.with_rows(label_names)
        # The rotation sees the held-out rows' features, never their targets; it changes no solution.
        self._designs = [
            linear.prepare(frozen.derive(table.features, names), device=context.device, owned=frozen.is_copy(names))
            for names in members
        ]
        self._encoded = torch.from_numpy(flat(table.targets)).to(context.device)
        always = np.arange(len(flat(self._targets)), len(flat(table.targets)))  # label names are never held out
        self._splits = [
            (np.concatenate([units(self._targets, train), always]), units(self._targets, held))
            for train, held in splits(fold_N)
        ]
        self._warm: dict[tuple[int, int], Tensor] = {}

    def run(self, inverse_penalty: float) -> tuple[CrossValidationResult, Floats]:
        """Fit every fold; return the result and the out-of-fold logits."""
        context = self._context
        logits_NK = np.zeros((len(flat(self._targets)), context.outputs), dtype=np.float32)

        def fit_fold(fold: int) -> None:
            train, held = self._splits[fold]
            for member, design in enumerate(self._designs):
                context.check_stop()
                weights = linear.fit(
                    design.rows(train),
                    self._encoded[torch.from_numpy(train).to(context.device)],
                    linear.Objective(context.task.link, context.outputs, inverse_penalty),
                    variance_R=design.variance_R,
                    start=self._warm.get((fold, member)),
                    check_stop=context.check_stop,
                )
                self._warm[fold, member] = weights
                answers = design.rows(held) @ weights[:, :-1].T + weights[:, -1]
                logits_NK[held] += answers.cpu().numpy() / len(self._designs)

        for _ in in_parallel(fit_fold, range(len(self._splits)), threads=context.threads):
            pass
        return measure(self._name, logits_NK, self._targets, inverse_penalty, self._named, context), logits_NK


def measure(  # noqa: PLR0917
    name: str, logits_NK: Floats, targets: Targets | Ragged, inverse_penalty: float, named: bool, context: FitContext
) -> CrossValidationResult:
    """Return score and loss of held-out logits."""
    task, link = context.task, context.task.link
    temperature = calibration.fit_temperature(logits_NK, targets, link)
    loss = calibration.log_loss(logits_NK, targets, link, temperature)
    probabilities_NK = calibration.probabilities(logits_NK, link, temperature)
    # At the thresholds that it would be published with: at 1/2 a strong penalty, whose probabilities are low, loses.
    chosen_NK = task.decide(probabilities_NK, task.tune_thresholds(targets, probabilities_NK))
    score, by_score = task.tally(targets, chosen_NK).score, isinstance(targets, Ragged)
    return CrossValidationResult(name, inverse_penalty, named, score, loss, len(targets), by_score)
