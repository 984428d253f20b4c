"""Learner that trains encoders (no network itself): a head on frozen features first, then fine-tuning if it may pay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from models.backbones.loading import Backbone
from models.datasets.windowing import windowing_of
from models.learning import tasks
from models.learning.comparison import live
from models.learning.contract import strategies
from models.learning.contract.events import Progress, TrainEvent, VersionReady
from models.learning.contract.request import TrainRequest
from models.learning.heads import default_head, encoding, first_version
from models.learning.heads.encoding import EncodedRun
from models.learning.publishing import publish
from models.learning.run import Run
from models.learning.search import outcomes, search, self_training
from models.learning.search import situation as situations
from models.learning.search.budget import ENDS


class EncoderLearner:
    """Learner of all tasks whose models are a linear head on an encoder; see `learner.Learner`."""

    def check(self, request: TrainRequest, backbone: Backbone) -> None:
        """Raise UnsupportedStrategy, and NoLinearLayers if low-rank matrices are asked for beside none."""
        strategies.check(request.strategy, request.task, backbone.entry, linear=backbone.linear)

    def train(self, run: Run) -> Iterator[TrainEvent]:
        """Yield the head as soon as it is measured, and what the search finds better."""
        if run.backbone.entry.modality == "text":
            task = tasks.encoder_task(run.task)
            usual = windowing_of(run.backbone.entry.max_tokens)
            windowing = task.read(usual, run.training.inputs, run.training.targets, check_stop=run.check_stop)
            run = replace(run, backbone=run.backbone.with_windowing(windowing))
        encoded = yield from encoding.encode(run)
        best = ""
        for event in self._versions(encoded):
            if isinstance(event, VersionReady):
                live.record_rows(encoded, encoded.measured[event.name], event.artifact_dir)
                best = event.name if event.improves else best
            yield event
        if run.request.live is not None:
            yield Progress("evaluating", ENDS, f"Comparing with version {run.request.live.number}, which is live")
            run.report.keep_comparison(live.compare(encoded, run.request.live, encoded.measured[best]))

    @staticmethod
    def _versions(run: EncodedRun) -> Iterator[TrainEvent]:
        """Yield a default head where the search for the best takes long, that best one, and what beats it."""
        strategy, prior = run.request.strategy, outcomes.head_prior(run)
        began = encoding.share(strategy, 25, 60)
        default = None
        if default_head.takes_long_to_search(run):
            yield Progress("fitting", began, "Fitting a head with default features and penalty")
            default = default_head.measure(run, prior)
            yield publish(run.run, default.trained, improves=True)
        yield Progress("fitting", began, "Fitting a head to frozen features")
        first = first_version.measure(run, prior)
        situation = situations.measure(run, first)
        run.report.state(situation=situation.as_dict())
        score = first.trained.evaluation.score.value
        yield Progress("fitting", encoding.share(strategy, 30, 90), metrics={"score": score})
        improves = default is None or default.is_matched_by(run, first)
        yield publish(run.run, first.trained, improves=improves)
        taught = yield from self_training.train(run, first)
        if taught is not None:
            yield taught
        for event in search.refine(run, first, situation):
            # It is compared with the head; a version that learned from unlabelled rows has to be beaten, too.
            if taught is not None and isinstance(event, VersionReady) and event.improves:
                beaten = self_training.is_beaten(run.measured[taught.name], run.measured[event.name])
                yield replace(event, improves=beaten)
            else:
                yield event
