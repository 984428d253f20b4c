"""The best version of a run and the live one on the same held-out rows, paired.

Rows that neither was trained on come first: rows that are new in the file are answered by the live version as it is.
Rows that both were trained on count by the answers that each gave while they were held out, where the live version's
record has that. Only if there are too few of both are rows taken that the live version may have been trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifacts.folder import Artifact, add_to_manifest
from models.artifacts.manifest import Manifest
from models.backbones import words
from models.backbones.words import WordRow
from models.datasets.windowing import Windowing, WordSplit
from models.learning.comparison import inference, labels
from models.learning.contract.comparison import ROWS_FILE, LiveComparison, LiveVersion
from models.learning.data import features, long_texts, row_record
from models.learning.data.corpus import Corpus
from models.learning.data.folds import subsample
from models.learning.data.ragged import Ragged, units
from models.learning.data.row_record import RowRecord
from models.learning.evaluation import against_live, calibration
from models.learning.evaluation.against_live import FEWEST, Answered
from models.learning.evaluation.assessment import HeldOut
from models.learning.heads.encoding import EncodedRows, EncodedRun, Measured
from models.learning.heads.linear import Floats
from models.learning.tasks import spans
from models.learning.tasks.task import Chosen, Tally

# Rows that the live version answers anew: a pass through the base each. The error of a comparison on 2,000 rows of
# which one in ten is answered differently is 0.7 points.
_MOST_ANSWERED = 2_000

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Picked:
    """Positions in the rows that can be compared."""

    anew: Indices  # answered by the live version now
    recorded: Indices  # answered by it while they were held out
    recorded_RJ: NDArray[np.float64] | None
    seen: bool

    def answers(self, parts: int) -> NDArray[np.float64]:
        """Return what the recorded answers add to the metric, (R, J)."""
        return np.empty((0, parts)) if self.recorded_RJ is None else self.recorded_RJ


@dataclass(frozen=True, slots=True)
class _RowParts:
    """Addends of both versions to the metric, row by row."""

    new_RJ: NDArray[np.float64]
    live_RJ: NDArray[np.float64]
    seen: bool  # the live version may have been trained on some of the rows


def record_rows(run: EncodedRun, measured: Measured, folder: Path) -> None:
    """Write beside a version's artifact which rows it was trained on, and how it answered those that were held out."""
    corpora = [run.training.corpus, *([run.extra_rows.corpus] if run.extra_rows else [])]
    if measured.unlabeled is not None:
        corpora.append(measured.unlabeled)
    parts_NJ, rows = measured.assessment.tally.parts_NJ, measured.held.positions
    if measured.held.validated:  # no training row was held out
        parts_NJ, rows = parts_NJ[:0], rows[:0]
    row_record.write(row_record.record(corpora, rows, parts_NJ), folder / ROWS_FILE)
    add_to_manifest(folder, ROWS_FILE)


def compare(run: EncodedRun, live: LiveVersion, measured: Measured) -> LiveComparison:
    """Compare the best version with the live one; a failure is returned as `problem`. Raises only Stopped."""

    def answer(artifact: Artifact, record: RowRecord | None) -> Answered:
        parts, metric = _answer(run, artifact, record, measured), measured.assessment.tally.metric
        return Answered(Tally(parts.new_RJ, metric), Tally(parts.live_RJ, metric), parts.seen)

    return against_live.compare(run.run, live, answer)


def _answer(run: EncodedRun, artifact: Artifact, record: RowRecord | None, measured: Measured) -> _RowParts:
    held, theirs = measured.held, artifact.manifest.labels
    source = run.validation if held.validated and run.validation is not None else run.training
    shared_K = np.isin(np.array(run.labels, dtype=object), np.array(theirs, dtype=object))
    at = labels.rows_with(held.targets, shared_K)  # positions in the held-out rows
    rows = held.positions[at]  # and in their corpus
    if record is not None and not _can_use_answers(run, record, measured, theirs):
        record = record.without_answers()
    picked = _pick(source.corpus.take(rows), record)
    strata_M = run.task.strata(held.targets[at[picked.anew]])
    anew = picked.anew[subsample(strata_M, _MOST_ANSWERED, seed=run.request.seed)]
    chosen = labels.translate(_decide(run, artifact, source, rows[anew]), run.task, artifact.manifest, run.labels)
    live_RJ = _tally(run, held, at[anew], chosen, shared_K)
    used = at[np.concatenate([anew, picked.recorded])]
    new_chosen = measured.assessment.chosen[units(held.targets, used)]
    return _RowParts(
        _tally(run, held, used, new_chosen, shared_K),
        np.concatenate([live_RJ, picked.answers(live_RJ.shape[1])]),
        picked.seen,
    )


def _pick(corpus: Corpus, record: RowRecord | None) -> _Picked:
    """Return which rows the live version answers anew, and for which its record has an answer."""
    if record is None:
        return _Picked(np.arange(len(corpus)), np.empty(0, dtype=np.int64), None, seen=True)
    trained_N = record.contains(corpus.input_keys_N)
    answers_NJ = record.answers(corpus.row_keys_N)
    recorded_N = trained_N & ~np.isnan(answers_NJ).any(1)
    seen = int((recorded_N | ~trained_N).sum()) < min(FEWEST, len(corpus))
    anew_N = ~recorded_N if seen else ~trained_N
    recorded = np.flatnonzero(recorded_N)
    return _Picked(np.flatnonzero(anew_N), recorded, answers_NJ[recorded].astype(np.float64), seen)


def _can_use_answers(run: EncodedRun, record: RowRecord, measured: Measured, theirs: Sequence[str]) -> bool:
    """Return whether recorded answers compare with new ones: the same sums, of the same scale, over the same labels.

    A hit is a hit whatever other labels there are; sums over several labels, or over values on another file's scale,
    are not the same.
    """
    tally = measured.assessment.tally
    same_sums = record.parts_NJ.shape[1] == tally.parts_NJ.shape[1]
    return same_sums and bool(run.labels) and (tuple(theirs) == run.labels or tally.hits_N is not None)


def _decide(run: EncodedRun, artifact: Artifact, source: EncodedRows, rows: Indices) -> Chosen:
    """Return the live version's answers for some rows, in its own labels."""
    corpus, manifest = source.corpus, artifact.manifest
    inputs = [corpus.inputs[row] for row in rows]
    tokens = [source.tokens[row] for row in rows]
    plain = {features.plain([name])[0] for name in manifest.features}
    tagged = isinstance(corpus.targets, Ragged)
    other_words = tagged and _words(manifest.windowing) != _words(run.backbone.windowing)
    same_windows = manifest.windowing == run.backbone.windowing or not long_texts.has_windows(tokens)
    alike = same_windows and not other_words
    if alike and not inference.changes_base(artifact) and plain <= set(source.features):
        taken = units(corpus.targets, rows)
        found = {name: source.features[name][taken] for name in plain}
        logits_NK = inference.head_logits(artifact, features.derive(found, manifest.features), inputs)
    else:
        run.run.check_stop()
        backbone = run.backbone.with_windowing(manifest.windowing)
        read = tokens if alike else backbone.tokenize(inputs)
        logits_NK = inference.logits(artifact, backbone, read, inputs)
        if other_words:
            return _in_our_words(run, manifest, logits_NK, read, tokens)
        if isinstance(corpus.targets, Ragged) and not alike:
            logits_NK = inference.spread_words(logits_NK, backbone.units(read), corpus.targets[rows])
    return _decisions(run, manifest, logits_NK)


def _decisions(run: EncodedRun, manifest: Manifest, logits_NK: Floats) -> Chosen:
    probabilities_NK = calibration.probabilities(logits_NK, run.task.link, manifest.temperature)
    thresholds = None if manifest.thresholds is None else np.array(manifest.thresholds, dtype=np.float32)
    return run.task.decide(probabilities_NK, thresholds)


def _in_our_words(
    run: EncodedRun, manifest: Manifest, logits_UK: Floats, theirs: Sequence[WordRow], ours: Sequence[WordRow]
) -> Chosen:
    """Return the tags of our words that the live version's spans amount to, which it finds in words of its own."""
    chosen = Ragged.of(_decisions(run, manifest, logits_UK), words.count_words(theirs))
    return spans.carry_over(chosen, *([row.spans_W2 for row in rows] for rows in (theirs, ours)))


def _words(windowing: Windowing | None) -> WordSplit:
    return "apart" if windowing is None else windowing.words


def _tally(
    run: EncodedRun, held: HeldOut, at: Indices, chosen: Chosen, shared_K: NDArray[np.bool_]
) -> NDArray[np.float64]:
    targets = held.targets[at]
    if run.labels and not shared_K.all():
        targets, chosen = labels.restrict(targets, chosen, shared_K)
    return run.task.tally(targets, chosen).parts_NJ
