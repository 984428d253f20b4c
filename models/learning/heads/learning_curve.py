"""The score on half of the rows beside the score on all of a fold's: how much cross-validation understates the head.

Held-out answers come from heads on four fifths of the rows (two thirds of many), the published one has seen them all.
A score grows by about as much with every doubling of the rows, as errors fall by a power of their number (Hestness et
al., arXiv:1712.00409): one more point of the curve says what the missing fifth is worth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from models.learning.data import features
from models.learning.data.folds import splits, subsample
from models.learning.data.ragged import flat, units
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads import selection
from models.learning.heads.cross_validation import DesignMatrix, FitContext
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.linear import Floats
from models.learning.heads.selection import Choice

# Vectors times outputs up to which every fold is fitted to half of its rows; beyond, one fold alone: it takes seconds.
_EVERY_FOLD = 200_000
_CLEAR = 0.002  # of a score: less is not worth a sentence


def measure(run: EncodedRun, choice: Choice, label_names: DesignMatrix | None, context: FitContext) -> dict[str, Any]:
    """Return the entry of the report; {} where a fold is too small to be halved. Raises Stopped."""
    corpus, task = run.training.corpus, run.task
    table = DesignMatrix({name: run.training.features[name] for name in features.plain(choice.names)}, corpus.targets)
    strata_N = task.strata(corpus.targets)
    folds = splits(choice.fold_N)
    folds = folds if len(flat(corpus.targets)) * run.outputs <= _EVERY_FOLD else folds[:1]
    halves = [train[subsample(strata_N[train], math.ceil(len(train) / 2), seed=run.request.seed)] for train, _ in folds]
    if min(len(half) for half in halves) < 2 * run.outputs:
        return {}

    def score_of(parts: list[Floats]) -> float:
        held = HeldOut(corpus.targets[held_rows], None)
        return assess(np.concatenate(parts), held, task, seed=run.request.seed).score.value

    held_rows = np.concatenate([held for _, held in folds])
    on_half: list[Floats] = []
    for (_, held), half in zip(folds, halves, strict=True):
        head = selection.fit_final(table.take(half), label_names, choice, context)
        where = units(corpus.targets, held)
        plain = {name: values[where] for name, values in table.features.items()}
        on_half.append(head.logits(features.derive(plain, choice.names)))
    low, high = score_of(on_half), score_of([choice.logits_NK[units(corpus.targets, held)] for _, held in folds])
    rows = [round(float(np.mean([len(part) for part in parts]))) for parts in (halves, [train for train, _ in folds])]
    gain = max(0.0, (high - low) * math.log2(len(corpus) / rows[1]) / math.log2(rows[1] / rows[0]))
    return {"learning_curve": describe(rows, [low, high], len(corpus), gain)}


def describe(rows: list[int], scores: list[float], all_rows: int, gain: float) -> dict[str, Any]:
    """Return the points of the curve, what the rows beyond them are worth, and a sentence."""
    base = f"Frozen features score {scores[1]:.3f} on {rows[1]} rows and {scores[0]:.3f} on {rows[0]}"
    if gain < _CLEAR:
        said = f"{base}: more rows like these add little."
    else:
        said = f"{base}: a head on all {all_rows} is about {gain:.3f} better than its held-out score."
    return {"rows": rows, "scores": scores, "expected_gain": gain, "sentence": said}
