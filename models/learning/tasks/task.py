"""Tasks as learning and serving see them: how targets are read, the link and the metric, how answers are decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.artifacts.manifest import UNSCALED
from models.backbones.backbone import Backbone
from models.datasets.examples import Input, Target
from models.datasets.windowing import Windowing
from models.learning.tasks.link_functions import LinkFunction

Floats = NDArray[np.float32]
# (N,) int64 for one label, (N, K) float32 of 0 and 1 for several, (N, 1) float32 for a value
Targets = NDArray[Any]
Chosen = NDArray[Any]  # (N, K) bool for labels, (N, 1) float32 for a value


@dataclass(frozen=True, slots=True)
class Tally:
    """The addends of each row to some sums, and the metric as a function of those.

    Accuracy, F1, a correlation: all are made of sums over rows. So any subset and any resample of the rows has a score.
    """

    parts_NJ: NDArray[np.float64]
    metric: Callable[[NDArray[np.float64]], NDArray[np.float64]]  # sums (…, J) → scores (…), more is better
    hits_N: NDArray[np.bool_] | None = None  # where each row is simply right or wrong
    least: float = 0.0  # what the metric cannot be below; a correlation can be -1

    @property
    def score(self) -> float:
        """Return the metric over all rows."""
        return float(self.metric(self.parts_NJ.sum(0)))

    def take(self, rows: NDArray[np.int64]) -> Tally:
        """Return the tally of some rows."""
        return replace(self, parts_NJ=self.parts_NJ[rows], hits_N=None if self.hits_N is None else self.hits_N[rows])

    def by_group(self, group_N: NDArray[np.int64] | None) -> Tally:
        """Return the same tally with one row per group: rows of one group are drawn together, or not at all."""
        if group_N is None:
            return self
        _, number_N = np.unique(group_N, return_inverse=True)
        parts_GJ = np.zeros((int(number_N.max(initial=-1)) + 1, self.parts_NJ.shape[1]))
        np.add.at(parts_GJ, number_N, self.parts_NJ)
        return replace(self, parts_NJ=parts_GJ, hits_N=None)


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Values that decoding needs beside the outputs: the version's labels, thresholds and scale, and what was asked.

    `top_k` is how many labels are listed; `most` is the same where the caller stated it, for answers that otherwise
    list all they have, and `min_score` what those must reach in place of the version's threshold.
    """

    labels: Sequence[str]
    thresholds: Sequence[float] | None = None  # see `Task.tune_thresholds`
    top_k: int = 1
    most: int | None = None
    min_score: float | None = None
    scale: tuple[float, float] = UNSCALED  # (offset, factor) from outputs to values; older versions answer in them


def as_objects(values: Sequence[Any]) -> NDArray[Any]:
    """Return values of any kind as an array, (N,): numpy would make a table of tuples of one length."""
    values_N = np.empty(len(values), dtype=object)
    values_N[:] = list(values)
    return values_N


def hits(hits_N: NDArray[np.bool_]) -> Tally:
    """Return the tally of the accuracy: the share of rows that are right."""
    return Tally(np.stack([hits_N, np.ones_like(hits_N)], axis=1).astype(np.float64), _share, hits_N)


def shares(gained_N: NDArray[Any], possible_N: NDArray[Any]) -> Tally:
    """Return the tally of Σ gained / Σ possible: with 2 tp and 2 tp + fp + fn it is F1."""
    return Tally(np.stack([gained_N, possible_N], axis=1).astype(np.float64), _share)


class AnsweredTask(Protocol):
    """A task as serving sees it, whichever learner trained the model: decoding, and no more."""

    @property
    def name(self) -> str:
        """Name of the task, as in a job's `task`."""

    @property
    def scored_labels(self) -> Literal["top_k", "all", "none"]:
        """The labels that an answer lists with a score for each input."""

    @property
    def answer_options(self) -> frozenset[str]:
        """What a caller may ask of answers: `top_k`, `min_score`. What is not in it would have no effect on them."""

    def decode(
        self, outputs: Sequence[Any], inputs: Sequence[Input], rows: Mapping[int, Any], options: DecodeOptions
    ) -> list[dict[str, Any]]:
        """Return each input's prediction as the API answers it.

        Outputs are what the model gave for each input: here (K,) probabilities or values, (W, K) where each word has
        its own. `rows[i]` is what the base's view made of input i, where an output alone does not say enough.
        """


class Task(AnsweredTask, Protocol):
    """A task as every learner sees it; a new one is a new file in this folder and a line in its table."""

    @property
    def metric(self) -> str:
        """Name of the score."""

    def bind(self, targets: Sequence[Target]) -> Self:
        """Return this task with the scale of the training targets, which it needs before it can encode any."""

    def labels(self, targets: Sequence[Target]) -> tuple[str, ...]:
        """Return all labels, in the order of the outputs; () if targets are not labels."""

    def kinds(self, targets: Sequence[Target]) -> int:
        """Return how many different targets there are: with less than two nothing can be learned."""

    def encode(self, targets: Sequence[Target], labels: Sequence[str]) -> Targets:
        """Return targets as the learner reads them, (N, …); raises KeyError with the first unknown label."""

    def strata(self, encoded: Any) -> NDArray[np.int64]:
        """Return a group per row (N,), for stratified folds."""

    def supports(self, encoded: Any, labels: Sequence[str]) -> NDArray[np.int64]:
        """Return the rows per label, (K,)."""

    def majority(self, encoded: Any, held: Any) -> Chosen:
        """Return the best answers for the rows of `held` that use the targets `encoded` and no input."""

    def tally(self, encoded: Any, chosen: Chosen) -> Tally:
        """Return each row's part in the metric."""


@runtime_checkable
class EncoderTask(Task, Protocol):
    """A task as the learner of encoders sees it: a linear head has to come out of it."""

    @property
    def link(self) -> LinkFunction:
        """The link from logits to probabilities or values, and its loss."""

    @property
    def scale(self) -> tuple[float, float]:
        """(offset, factor) from what the head is fitted to, to the customer's own unit."""

    def read(
        self, windowing: Windowing, inputs: Sequence[Input], targets: Targets, *, check_stop: Callable[[], None]
    ) -> Windowing:
        """Return how texts with these targets, as `encode` returned them, are read; `check_stop` may end it."""

    def view(self, backbone: Backbone, inputs: Sequence[Input]) -> Backbone:
        """Return the base as this task reads such inputs."""

    def outputs(self, labels: Sequence[str]) -> int:
        """Return how many logits a prediction is made of."""

    def align(self, encoded: Targets, rows: Sequence[Any]) -> Any:
        """Return one target per vector that the base has of a row, once the rows are tokenised: Targets, or Ragged."""

    def label_name_targets(self, labels: Sequence[str]) -> Sequence[Target] | None:
        """Return the target of each label's name, used as one more row; None where names are not like rows."""

    def decide(self, probabilities_NK: Floats, thresholds_K: Floats | None) -> Chosen:
        """Return the decisions: the chosen labels as a mask (N, K), or the values as they are."""

    def figures(self, encoded: Any, probabilities_NK: Floats, chosen: Chosen, labels: Sequence[str]) -> dict[str, Any]:
        """Return what a report states beside the score. JSON-ready, every number finite."""

    def tune_thresholds(self, encoded: Any, probabilities_NK: Floats) -> Floats | None:
        """Return numbers that a decision needs, found on held-out rows; None if the task has none."""


def best_labels(outputs: Sequence[Floats], labels: Sequence[str], top_k: int) -> list[list[dict[str, Any]]]:
    """Return the `top_k` most probable labels of each (K,) output; equal ones in the order of the labels."""
    count = min(top_k, len(labels))
    if count == 1:
        # The most frequent request, mostly of one row: a fifth of the event loop's time went into doing it as a table.
        # Not by numpy's argmax either: it releases the interpreter's lock, and busy worker threads are slow to give it
        # back.
        scores = [output.tolist() for output in outputs]
        best = [(max(row), row) for row in scores]
        return [[{"label": labels[row.index(score)], "score": score}] for score, row in best]
    scores_BK = np.stack(outputs)
    # Stable, so that equal scores come in the order of the labels.
    best_BC = np.argsort(-scores_BK, axis=1, kind="stable")[:, :count]
    values_BC = np.take_along_axis(scores_BK, best_BC, axis=1).tolist()
    return [
        [{"label": labels[at], "score": score} for at, score in zip(row, values, strict=True)]
        for row, values in zip(best_BC.tolist(), values_BC, strict=True)
    ]


def _share(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    share: NDArray[np.float64] = sums[..., 0] / np.maximum(sums[..., 1], 1e-12)
    return share
