"""Baselines: the most frequent answer, and the base as it is with nothing trained."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from models.learning.data.ragged import flat, spread
from models.learning.evaluation.assessment import Assessment, HeldOut, assess
from models.learning.heads import zero_shot
from models.learning.heads.cross_validation import DesignMatrix
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.linear import Floats, Head
from models.learning.heads.stacking import parts_of
from models.learning.publishing import Trained


@dataclass(frozen=True, slots=True)
class Baselines:
    """The better of the zero-shot models as a version of its own, and the scores that every report states."""

    trained: Trained
    assessment: Assessment
    head: Head
    logits_NK: Floats  # on the held-out rows
    scores: dict[str, float]  # `majority`, each zero-shot head, and the `gate`: the best of what a version replaces


def measure(run: EncodedRun, fold_N: NDArray[Any], held: HeldOut, label_names: DesignMatrix | None) -> Baselines:
    """Measure the baselines on `held`; without a validation file they answer out of fold, by `fold_N`."""
    began = time.monotonic()
    corpus, task, seed = run.training.corpus, run.task, run.request.seed
    probe = run.backbone.probe(run.backbone.blocks)
    out_of_fold = HeldOut(corpus.targets, fold_N)
    measured: dict[str, tuple[Head, Floats, Assessment]] = {}
    for method, (head, tuning_NK) in _zero_shot_heads(run, fold_N, label_names).items():
        if run.validation is None:
            logits_NK = tuning_NK
            assessment = assess(logits_NK, held, task, seed=seed)
        else:
            logits_NK = head.logits(run.validation.features[probe])
            assessment = assess(logits_NK, held, task, seed=seed, tuned_on=(tuning_NK, out_of_fold))
        measured[method] = (head, logits_NK, assessment)
    best = max(measured, key=lambda method: measured[method][2].score.value)
    head, logits_NK, assessment = measured[best]
    majority = task.tally(held.targets, task.majority(corpus.targets, held.targets)).score
    run.report.add_tried("zero-shot", **score_and_seconds(assessment, time.monotonic() - began), way=best)
    scores = {method: assessed.score.value for method, (_, _, assessed) in measured.items()}
    gate = majority if run.request.strategy == "zero-shot" else max(majority, *scores.values())
    trained = Trained(
        name="zero-shot",
        features=(probe,),
        parts=parts_of(head, None),
        evaluation=assessment.evaluation(held, task, run.labels),
        hyperparameters={"way": best},
    )
    return Baselines(trained, assessment, head, logits_NK, {"majority": majority, **scores, "gate": gate})


def score_and_seconds(assessment: Assessment, seconds: float) -> dict[str, float]:
    """Return what `strategies_tried` states of a head."""
    score = assessment.interval
    return {
        "score": score.value,
        "score_low": score.low,
        "score_high": score.high,
        "seconds": round(seconds, 3),
    }


def _zero_shot_heads(
    run: EncodedRun, fold_N: NDArray[Any], label_names: DesignMatrix | None
) -> dict[str, tuple[Head, Floats]]:
    """Return each zero-shot head by its name in a report, with out-of-fold logits of the training rows."""
    targets, link, outputs = run.training.corpus.targets, run.task.link, run.outputs
    probe = run.backbone.probe(run.backbone.blocks)
    last_NF = run.training.features[probe]
    means = zero_shot.class_mean_head(last_NF, flat(targets), link, outputs=outputs)
    means_NK = zero_shot.class_mean_logits(last_NF, flat(targets), link, spread(fold_N, targets), outputs=outputs)
    heads = {zero_shot.class_mean_method(link): (means, means_NK)}
    if label_names is not None:
        named = zero_shot.label_name_head(label_names.features[probe], last_NF, link)
        heads["label_names"] = (named, named.logits(last_NF))
    return heads
