"""A run's best version beside the live one on the same rows: what every learner's comparison has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from models.artifacts.errors import CorruptArtifact
from models.artifacts.folder import Artifact, add_to_manifest, is_as_published, read_artifact
from models.learning.contract.comparison import ROWS_FILE, LiveComparison, LiveVersion
from models.learning.contract.errors import Stopped
from models.learning.data import row_record
from models.learning.data.corpus import Corpus
from models.learning.data.row_record import RowRecord
from models.learning.evaluation import scores
from models.learning.run import Run
from models.learning.tasks.task import Tally

# With fewer rows that the live version was not trained on, the others are compared as well.
FEWEST = 30

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """What both versions say of the same rows."""

    new: Tally
    live: Tally
    seen: bool  # the live version may have been trained on some of the rows


def compare(run: Run, live: LiveVersion, answer: Callable[[Artifact, RowRecord | None], Answered]) -> LiveComparison:
    """Compare the best version with the live one by what `answer` returns; a failure is returned as `problem`.

    `answer` takes the live version's artifact and the record of its rows, if there is one. Raises only Stopped.
    """
    try:
        artifact = read_artifact(live.folder)
    except CorruptArtifact as error:
        return LiveComparison(live.number, problem=error.reason, broken=True)
    manifest = artifact.manifest
    if (manifest.base, manifest.base_revision) != (run.backbone.entry.name, run.backbone.revision):
        return LiveComparison(live.number, problem="it stands on another revision of the base model", broken=True)
    lost = tuple(sorted(set(manifest.labels) - set(run.labels)))
    added = tuple(sorted(set(run.labels) - set(manifest.labels)))

    def without(problem: str) -> LiveComparison:
        return LiveComparison(live.number, labels_lost=lost, labels_added=added, problem=problem)

    if manifest.task != run.task.name or (run.labels and len(added) == len(run.labels)):
        return without("the two share no label" if run.labels else "it answers another task")
    try:
        answered = answer(artifact, _read_record(live, artifact))
    except Stopped:
        raise
    except Exception:  # whatever it is, the new version is trained and must not be lost over it
        _log.exception("comparison_failed")
        return without("comparing them failed")
    new, old = answered.new, answered.live
    if not len(new.parts_NJ):
        known = "has a label that both know" if run.labels else "can be answered by both"
        return without(f"no held-out row {known}")
    found = scores.compare(new, old, seed=run.request.seed)
    return LiveComparison(
        live=live.number,
        metric=run.task.metric,
        rows=len(new.parts_NJ),
        score=new.score,
        live_score=old.score,
        gain=found.gain,
        low=found.low,
        high=found.high,
        probability=found.probability,
        seen=answered.seen,
        labels_lost=lost,
        labels_added=added,
    )


def record_rows(corpus: Corpus, learned: Sequence[int], folder: Path) -> None:
    """Write beside a version's artifact which rows of the training file it learned from; it answered none held out."""
    rows = np.array(sorted(learned), dtype=np.int64)
    unanswered_NJ = np.full((len(rows), 1), np.nan, dtype=np.float32)
    row_record.write(RowRecord(corpus.input_keys_N[rows], corpus.row_keys_N[rows], unanswered_NJ), folder / ROWS_FILE)
    add_to_manifest(folder, ROWS_FILE)


def pick_unseen(run: Run, held: Sequence[int], record: RowRecord | None) -> tuple[NDArray[np.int64], bool]:
    """Return which held-out rows to compare on, and whether the live version may have learned from some.

    `held`: their places in the validation file, or in the training file if there is none. Half of a small file's
    held-out rows say more than all of them, some of them known.
    """
    everything = np.arange(len(held))
    if record is None:
        return everything, True
    corpus = run.training if run.validation is None else run.validation
    new = np.flatnonzero(~record.contains(corpus.input_keys_N[np.array(held, dtype=np.int64)]))
    seen = len(new) < min(FEWEST, len(held) / 2)
    return (everything, True) if seen else (new, False)


def _read_record(live: LiveVersion, artifact: Artifact) -> RowRecord | None:
    """Return the live version's record of its rows; None if it has none, or not the one that was published."""
    if not is_as_published(live.folder, ROWS_FILE, artifact.manifest):
        _log.warning("rows_not_as_published")
        return None
    return row_record.read(live.folder / ROWS_FILE)
