"""The first servable version: a head on frozen features, measured out of fold, and the baselines beside it.

Where it helps, a head on the terms of the texts is added to it (see `stacking`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
import torch

from models.artifacts.parts import HeadWeights, Part
from models.backbones.backbone import Row
from models.datasets.examples import TextPair
from models.learning.contract.errors import InvalidHyperparameters
from models.learning.contract.events import VersionReady
from models.learning.data import features
from models.learning.data.corpus import Corpus
from models.learning.data.ragged import Ragged, flat, spread
from models.learning.evaluation import label_issues
from models.learning.evaluation.assessment import Assessment, HeldOut, assess
from models.learning.heads import linear, selection, stacking, zero_shot
from models.learning.heads.cross_validation import DesignMatrix, FitContext
from models.learning.heads.linear import Floats, Head
from models.learning.heads.selection import Choice
from models.learning.heads.stacking import Stack
from models.learning.run import Run, Trained, versions, write_candidate

log = structlog.get_logger(__name__)

# Rows per class up to which label names are tried as rows: one more among many changes nothing.
_NAMED_ROWS = 50


@dataclass(frozen=True, slots=True)
class HeadPrior:
    """What heads of earlier jobs ended with; None where too little is known."""

    features: str | None = None
    regularization: float | None = None


@dataclass(frozen=True, slots=True)
class FirstVersion:
    """The head (or zero-shot) model and all that was measured on the way to it."""

    trained: Trained
    head: Head  # without the lexical part
    choice: Choice
    stack: Stack | None  # None: nothing that has terms, or the customer wants none
    held: HeldOut
    logits_NK: Floats  # on the held-out rows, of head and lexical part
    label_names: DesignMatrix | None  # None for a base that does not read text


def asked_features(run: Run) -> tuple[str, ...]:
    """The features that the customer named, () for `auto`. Raises InvalidHyperparameters."""
    asked = run.request.hyperparameters.features
    if asked == "auto":
        return ()
    sets = run.backbone.feature_sets()
    if asked in sets:
        return sets[asked]
    names = tuple(name.strip() for name in asked.split(","))
    try:
        for name in names:
            run.backbone.parse_feature(name)
    except ValueError as error:
        reason = f"{error}; or name one of {', '.join(sets)}"
        raise InvalidHyperparameters(name="features", value=asked, reason=reason) from error
    return names


def measure(run: Run, prior: HeadPrior) -> FirstVersion:
    """Choose features and penalty by cross-validation, fit on all rows, measure the baselines."""
    began = time.monotonic()
    corpus, task = run.training.corpus, run.task
    asked = run.request.hyperparameters
    names = asked_features(run)
    sets = {str(asked.features): names} if names else run.backbone.feature_sets()
    table = DesignMatrix(run.training.features, corpus.targets)
    names_table = label_name_rows(run)
    choice = selection.choose(
        table,
        names_table if len(corpus) <= _NAMED_ROWS * run.outputs else None,
        selection.usual_first(sets, prior.features),
        setting(run),
        alike_N=corpus.alike_N,
        seed=run.request.seed,
        inverse_penalty=None if asked.regularization == "auto" else 1.0 / float(asked.regularization),
        start=None if prior.regularization is None else 1.0 / prior.regularization,
    )
    run.check_stop()
    head = selection.fit_final(table, names_table, choice, setting(run))
    stack = _stack(run, choice)
    out_of_fold = HeldOut(corpus.targets, choice.fold_N)
    held, logits_NK, assessment = out_of_fold, stack.logits_NK if stack else choice.logits_NK, None
    if run.validation is not None:
        tuned = (logits_NK, out_of_fold)
        held = HeldOut(run.validation.corpus.targets, None, validated=True)
        logits_NK = head.logits(features.derive(run.validation.features, choice.names))
        if stack is not None:
            logits_NK = stack.mix(logits_NK, stack.answer(texts_of(run.validation.corpus)))
        assessment = assess(logits_NK, held, task, seed=run.request.seed, tuned_on=tuned)
    else:
        assessment = assess(logits_NK, held, task, seed=run.request.seed)
    trained = Trained(
        name="head",
        features=choice.names,
        parts=parts_of(head, stack),
        assessment=assessment,
        hyperparameters={
            "features": choice.features,
            "regularization": linear.regularization(choice.inverse_penalty),
            "label_names": choice.label_names,
        },
    )
    run.seconds["fitting"] = time.monotonic() - began
    run.tried.append(_tried("head", assessment, run.seconds["fitting"] + run.seconds["encoding"]))
    run.tried[-1]["trials"] = selection.describe(choice.trials)
    first = FirstVersion(trained, head, choice, stack, held, logits_NK, names_table)
    zero, baseline = _baselines(run, first, names_table)
    run.report = _common_report(run, first, baseline)
    return zero if run.request.strategy == "zero-shot" else first


def setting(run: Run) -> FitContext:
    """What every fit of this run's heads shares."""
    return FitContext(run.task, run.outputs, run.backbone.device, run.backbone.threads, run.stop)


def label_name_tokens(run: Run) -> list[Row]:
    """The labels' names as the base reads them, in the order of the labels."""
    return run.backbone.tokenize([zero_shot.readable(label) for label in run.labels])


def label_name_rows(run: Run) -> DesignMatrix | None:
    """Each label's name as a row of its class: plain features as the corpus has them, and targets."""
    targets = run.task.named(run.labels)
    paired = isinstance(run.training.corpus.inputs[0], TextPair)  # a name is no pair
    if targets is None or run.backbone.entry.modality != "text" or paired:
        return None
    names = list(run.training.features)
    encoded_KF = run.backbone.encode_tokens(label_name_tokens(run), names)
    return DesignMatrix(features.split(encoded_KF, names, run.backbone), run.task.encode(targets, run.labels))


def _stack(run: Run, choice: Choice) -> Stack | None:
    """How much the texts' terms add to the chosen head."""
    corpus, wanted = run.training.corpus, run.request.hyperparameters.lexical
    if wanted is False or run.request.strategy == "zero-shot" or not _has_terms(run):
        return None
    began = time.monotonic()
    try:
        stack = stacking.measure(
            texts_of(corpus),
            corpus.targets,
            choice.logits_NK,
            choice.fold_N,
            setting(run),
            seed=run.request.seed,
            wanted=wanted is True,
        )
    except linear.LinAlgError as error:
        # The part is an extra: a job whose terms cannot be fitted has a model without them.
        log.warning("terms_not_fitted", error=str(error))
        stack = None
    run.seconds["lexical"] = time.monotonic() - began
    return stack


def texts_of(corpus: Corpus) -> list[str]:
    """The rows of a corpus whose inputs are whole texts."""
    return [str(text) for text in corpus.inputs]


def _has_terms(run: Run) -> bool:
    """Whether rows are whole texts and targets labels: pairs are about what differs, and values have no temperature."""
    corpus = run.training.corpus
    return (
        run.task.link.tempered
        and not isinstance(corpus.targets, Ragged)
        and all(isinstance(item, str) for item in corpus.inputs)
    )


def publish(run: Run, first: FirstVersion) -> VersionReady:
    """Write the first version's artifact."""
    return write_candidate(run, first.trained, first.held, improves=True)


def _baselines(run: Run, first: FirstVersion, names_table: DesignMatrix | None) -> tuple[FirstVersion, dict[str, Any]]:
    """The better of both zero-shot models as a version of its own, and the scores that every report states."""
    began = time.monotonic()
    corpus, task, choice = run.training.corpus, run.task, first.choice
    probe = run.backbone.probe(run.backbone.blocks)
    last_NF = run.training.features[probe]
    outputs = run.outputs
    out_of_fold = HeldOut(corpus.targets, choice.fold_N)
    means = zero_shot.class_mean_head(last_NF, flat(corpus.targets), task.link, outputs=outputs)
    ways = {
        zero_shot.way_of_means(task.link): (
            means,
            zero_shot.class_mean_logits(
                last_NF, flat(corpus.targets), task.link, spread(choice.fold_N, corpus.targets), outputs=outputs
            ),
        ),
    }
    if names_table is not None:
        named = zero_shot.label_name_head(names_table.features[probe], last_NF, task.link)
        ways["label_names"] = (named, named.logits(last_NF))
    measured: dict[str, tuple[Head, Floats, Assessment]] = {}
    for way, (head, tuning_NK) in ways.items():
        if run.validation is None:
            logits_NK = tuning_NK
            assessment = assess(logits_NK, first.held, task, seed=run.request.seed)
        else:
            logits_NK = head.logits(run.validation.features[probe])
            tuned = (tuning_NK, out_of_fold)
            assessment = assess(logits_NK, first.held, task, seed=run.request.seed, tuned_on=tuned)
        measured[way] = (head, logits_NK, assessment)
    best = max(measured, key=lambda way: measured[way][2].score.value)
    head, logits_NK, assessment = measured[best]
    majority = _majority(run, first)
    run.tried.append({**_tried("zero-shot", assessment, time.monotonic() - began), "way": best})
    trained = Trained(
        name="zero-shot",
        features=(probe,),
        parts=parts_of(head, None),
        assessment=assessment,
        hyperparameters={"way": best},
    )
    zero = FirstVersion(trained, head, choice, None, first.held, logits_NK, names_table)
    scores = {way: assessed.score.value for way, (_, _, assessed) in measured.items()}
    gate = majority if run.request.strategy == "zero-shot" else max(majority, *scores.values())
    return zero, {"majority": majority, **scores, "gate": gate}


def _majority(run: Run, first: FirstVersion) -> float:
    chosen = run.task.usual(run.training.corpus.targets, first.held.targets)
    return run.task.tally(first.held.targets, chosen).score


def _common_report(run: Run, first: FirstVersion, baseline: dict[str, Any]) -> dict[str, Any]:
    corpus, choice = run.training.corpus, first.choice
    out_of_fold_NK = first.stack.logits_NK if first.stack else choice.logits_NK
    calibrated = assess(out_of_fold_NK, HeldOut(corpus.targets, choice.fold_N), run.task, seed=run.request.seed)
    supports_K = run.task.supports(corpus.targets, run.labels)
    return {
        "task": run.task.name,
        **({"lexical": first.stack.describe()} if first.stack else {}),
        "baseline": baseline,
        "seed": run.request.seed,
        "data": {
            "sha256": run.request.training.sha256,
            "inputs_sha256": corpus.digest,
            "rows": run.rows_read,
            "rows_of_head": len(corpus),
            "validation_rows": len(run.validation.corpus) if run.validation else 0,
            "validation_rows_in_training": corpus.left_out.get("validation", {}).get("in_training", 0),
            **corpus.left_out,
            "tokens": run.training.token_count,
            "labels": {label: int(count) for label, count in zip(run.labels, supports_K, strict=True)},
        },
        "base": {
            "name": run.backbone.entry.name,
            "revision": run.backbone.revision,
            "precision": str(run.backbone.dtype).removeprefix("torch."),
        },
        "versions": versions(),
        "suspects": label_issues.find(corpus, calibrated.probabilities_NK, run.labels),
    }


def _tried(name: str, assessment: Assessment, seconds: float) -> dict[str, Any]:
    score = assessment.score
    return {
        "name": name,
        "score": score.value,
        "score_low": score.low,
        "score_high": score.high,
        "seconds": round(seconds, 3),
    }


def parts_of(head: Head, stack: Stack | None) -> tuple[Part, ...]:
    """What an artifact holds of a head, and of the lexical part that is added to it."""
    if stack is None or stack.part is None:
        return (HeadWeights(torch.from_numpy(head.weight_KF), torch.from_numpy(head.bias_K)),)
    factor, part = np.float32(stack.head_factor), stack.part.scaled(stack.share)
    weights = HeadWeights(
        torch.from_numpy(factor * head.weight_KF), torch.from_numpy(factor * head.bias_K + part.bias_K)
    )
    return weights, part.weights()
