"""Learners: each turns the rows of a run into versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from models.backbones.loading import Backbone
from models.learning.contract.events import TrainEvent
from models.learning.contract.request import TrainRequest
from models.learning.run import Run


class Learner(Protocol):
    """One family of models: what is trained, and how. It holds no state between runs.

    Shared with all others, and not to be written again: reading rows (`data.corpus`), folds, scores with intervals and
    paired comparison (`evaluation`), the report (`report`), artifacts and events (`publishing`).
    """

    def check(self, request: TrainRequest, backbone: Backbone) -> None:
        """Raise an InvalidRequest if the base cannot do what is asked; called before any row is read."""

    def train(self, run: Run) -> Iterator[TrainEvent]:
        """Yield `Progress* (VersionReady Progress*)+`: something servable first, then only what improves on it.

        Every VersionReady comes from `publishing.publish`. Before the first one the report must state its `baseline`.
        Where the request names a live version, a learner that can compares its best one with that on the same rows
        (`report.keep_comparison`); without a comparison the new version replaces it unless it is below the majority.
        Raises Stopped soon after `run.stop()` returns True, InvalidRequest, and other GraftErrors.
        """
