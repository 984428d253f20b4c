"""The best version of a run and the live one on the same held-out pictures, and the record that makes that possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.artifacts.folder import Artifact
from models.learning.contract.comparison import LiveComparison, LiveVersion
from models.learning.data.row_record import RowRecord
from models.learning.detection.canvas import Canvas
from models.learning.detection.fit import DetectionRun
from models.learning.detection.judging import Judgement
from models.learning.evaluation import against_live, average_precision
from models.learning.evaluation.against_live import Answered
from models.learning.tasks.task import Tally


def record_rows(detection: DetectionRun, folder: Path) -> None:
    """Write beside a version's artifact which pictures of the training file it learned from."""
    against_live.record_rows(detection.run.training, [each.place for each in detection.material.training], folder)


def compare(detection: DetectionRun, live: LiveVersion, judgement: Judgement) -> LiveComparison:
    """Compare the best version with the live one; a failure is returned as `problem`. Raises only Stopped."""

    def answer(artifact: Artifact, record: RowRecord | None) -> Answered:
        model = detection.family.read(artifact)
        canvas = Canvas(*map(int, artifact.manifest.details["detection"]["canvas"]))
        judge = detection.judge
        theirs = judge.judge(model, judge.views(model, canvas), labels=artifact.manifest.labels)
        picked, seen = against_live.pick_unseen(detection.run, [each.place for each in detection.material.held], record)
        return Answered(_tally(detection, judgement, picked), _tally(detection, theirs, picked), seen)

    return against_live.compare(detection.run, live, answer)


def _tally(detection: DetectionRun, judgement: Judgement, picked: NDArray[np.int64]) -> Tally:
    """Return the tally of some held-out pictures, a row per group of them."""
    group_N = detection.material.group_N
    tally = average_precision.tally(judgement.matches).take(picked)
    return tally.by_group(None if group_N is None else group_N[picked])
