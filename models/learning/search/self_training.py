"""Self-training as a candidate: the student of `pseudo_labels` beside the first version, on the same held-out rows.

It is a version of its own if it is better there, by the comparison that every candidate goes through; else the report
says that it was not. What is refined later has to beat it, too.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.learning.contract.events import Progress, TrainEvent, VersionReady
from models.learning.data import features
from models.learning.data.corpus import Corpus, read_unlabeled
from models.learning.evaluation.assessment import Assessment, HeldOut, assess
from models.learning.evaluation.scores import Comparison
from models.learning.heads import baselines
from models.learning.heads.encoding import EncodedRun, Measured, share
from models.learning.heads.first_version import FirstVersion
from models.learning.heads.linear import Floats, Head
from models.learning.heads.pseudo_labels import CONFIDENCE, MOST_ROWS, Students, Taught
from models.learning.heads.stacking import parts_of
from models.learning.publishing import Trained, publish
from models.learning.search import policy
from models.learning.search.budget import BEGINS
from models.learning.search.held_out import compare, judge
from models.learning.search.policy import TrialFigures

NAME = "self-training"
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class _Measured:
    """The student beside the first version on the same held-out rows."""

    new: Assessment
    comparison: Comparison
    figures: TrialFigures


def train(run: EncodedRun, first: FirstVersion) -> Generator[TrainEvent, None, VersionReady | None]:
    """Learn from the request's rows without labels; return the version if held-out rows gain, else None."""
    source = run.request.unlabeled
    if source is None:
        return None
    began, percent = time.monotonic(), share(run.request.strategy, BEGINS, 90.0)
    corpus = read_unlabeled(source, run.training.corpus, None if run.validation is None else run.validation.corpus)
    yield Progress("encoding", percent, _told(corpus))
    if not len(corpus):
        run.report.state(self_training={**corpus.left_out, "used": False, "reason": "no row is left"})
        return None
    corpus = _drawn(corpus, seed=run.request.seed)
    found = yield from _encode(run, first, corpus)
    students = Students(run, first, found)
    yield Progress("fitting", percent, f"Learning from {len(corpus)} rows without labels")
    out_of_fold_NK = students.out_of_fold()
    taught = students.teach(np.arange(len(run.training.corpus)))
    head = students.head(taught)
    measured = _measure(run, first, head, out_of_fold_NK)
    improves = policy.improves(measured.figures)
    seconds = time.monotonic() - began
    run.report.add_seconds("self_training", seconds)
    run.report.add_tried(NAME, **baselines.score_and_seconds(measured.new, seconds), taken=list(taught.taken))
    described = _describe(corpus, taught, measured, used=improves)
    run.report.state(self_training=described)
    yield Progress("evaluating", percent, described["reason"])
    if not improves:
        return None
    trained = Trained(
        name=NAME,
        features=first.choice.names,
        parts=parts_of(head, first.stack),
        evaluation=measured.new.evaluation(first.held, run.task, run.labels),
        hyperparameters=first.trained.hyperparameters,
    )
    run.measured[NAME] = Measured(measured.new, first.held, unlabeled=corpus)
    return publish(run.run, trained, improves=True)


def is_beaten(own: Measured, refined: Measured) -> bool:
    """Return whether a refined candidate is better than self-training on the held-out rows that both have answered."""
    return bool(refined.assessment.score.value > own.assessment.tally.take(refined.held.positions).score)


def _drawn(corpus: Corpus, *, seed: int) -> Corpus:
    """Return as many rows as are learned from, drawn if there are more."""
    if len(corpus) <= MOST_ROWS:
        return corpus
    return corpus.take(np.sort(np.random.default_rng(seed).choice(len(corpus), MOST_ROWS, replace=False)))


def _encode(run: EncodedRun, first: FirstVersion, corpus: Corpus) -> Generator[TrainEvent, None, dict[str, Floats]]:
    """Return the plain features of the rows that the head reads, and those by which neighbours are found."""
    names = features.plain([*first.choice.names, run.backbone.probe(run.backbone.blocks)])
    tokens = []
    for start in range(0, len(corpus), _ROWS_AT_ONCE):
        run.run.check_stop()
        tokens += run.backbone.tokenize(corpus.inputs[start : start + _ROWS_AT_ONCE])
    run.report.add_tokens(sum(len(row) for row in tokens))
    steps = features.compute(
        corpus, tokens, names, run.backbone, cache_dir=run.request.feature_cache_dir, stop=run.stop
    )
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: dict[str, Any] = end.value
            return found
        yield Progress("encoding", share(run.request.strategy, BEGINS, 90.0))


def _measure(run: EncodedRun, first: FirstVersion, head: Head, out_of_fold_NK: Floats) -> _Measured:
    """Compare the student with the first version; the n-gram part, if there is one, is added to both."""
    choice, task, seed, held = first.choice, run.task, run.request.seed, first.held
    factor = np.float32(first.stack.head_factor if first.stack and first.stack.part else 1.0)
    training = HeldOut(run.training.corpus.targets, choice.fold_N, group_N=run.training.corpus.groups.numbers)
    if run.validation is None:
        logits_NK = first.logits_NK + factor * (out_of_fold_NK - choice.logits_NK)
        new = assess(logits_NK, held, task, seed=seed)
    else:
        found_NF = features.derive(run.validation.features, choice.names)
        mixed_NK = choice.logits_NK if first.stack is None else first.stack.logits_NK
        tuning_NK = mixed_NK + factor * (out_of_fold_NK - choice.logits_NK)
        logits_NK = first.logits_NK + factor * (head.logits(found_NF) - first.head.logits(found_NF))
        new = assess(logits_NK, held, task, seed=seed, tuned_on=(tuning_NK, training))
    old = run.measured[first.trained.name].assessment
    beside = judge(first.logits_NK, old, held, task)
    comparison, figures = compare(judge(logits_NK, new, held, task), beside, held, seed=seed)
    return _Measured(new, comparison, figures)


def _describe(corpus: Corpus, taught: Taught, measured: _Measured, *, used: bool) -> dict[str, Any]:
    """Return the entry of the report."""
    compared = measured.comparison
    points = f"{100 * compared.gain:+.1f} points ({100 * compared.low:+.1f} to {100 * compared.high:+.1f})"
    taken = ", ".join(map(str, taught.taken)) or "no"
    what = f"{taken} pseudo-labels at a confidence of {CONFIDENCE:g}: {points} on held-out rows"
    return {
        **corpus.left_out,
        "rows_used": len(corpus),
        "confidence": CONFIDENCE,
        "taken": list(taught.taken),
        "gain": compared.gain,
        "gain_low": compared.low,
        "gain_high": compared.high,
        "probability": compared.probability,
        "used": used,
        "reason": f"{what}, {'which is a version of its own' if used else 'not clearly better: not used'}",
    }


def _told(corpus: Corpus) -> str:
    """Return what became of the rows without labels, as a message."""
    left_out = corpus.left_out
    parts = [
        f"{left_out[name]} {words}"
        for name, words in (
            ("in_training", "are in the training file"),
            ("in_validation", "are in the validation file"),
            ("repeated", "repeat another"),
        )
        if left_out[name]
    ]
    told = f"; left out: {', '.join(parts)}" if parts else ""
    return f"{left_out['rows']} rows without labels{told}"
