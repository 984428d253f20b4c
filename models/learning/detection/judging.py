"""How a model does on the held-out pictures: average precision, what it mixes up, and the score to answer from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones.maps import PictureBase
from models.backbones.parallel import in_parallel
from models.learning.contract.errors import Stopped
from models.learning.detection import answers, frozen
from models.learning.detection import canvas as canvases
from models.learning.detection.canvas import Canvas
from models.learning.detection.frozen import FrozenView, FrozenViews
from models.learning.detection.material import Material, Picture
from models.learning.detection.model import DetectionModel
from models.learning.evaluation import average_precision, box_errors, scores
from models.learning.evaluation.boxes import Matches, PictureBoxes, match
from models.learning.evaluation.scores import Evaluation
from models.learning.run import Run
from models.learning.tasks.task import Tally

_TOGETHER = 16  # pictures whose views are in memory, beside those that are kept


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model found in the held-out pictures, and how much of it is right."""

    found: tuple[PictureBoxes, ...]
    matches: Matches
    tally: Tally

    @property
    def score(self) -> float:
        """AP50."""
        return self.tally.score


class Judge:
    """Judges models on a run's held-out pictures, each as serving would answer it."""

    def __init__(self, run: Run, backbone: PictureBase, material: Material) -> None:
        self._run = run
        self._backbone = backbone
        self._material = material

    def views(self, model: DetectionModel, canvas: Canvas | None = None) -> FrozenViews:
        """Return the held-out pictures below what trains in such a model; on the run's canvas, or another one."""
        material, seed = self._material, self._run.request.seed
        own = canvas or material.canvas
        # Of a JPEG the zoom decides what is decoded: with that of training the judge saw other pixels than serving.
        return FrozenViews(self._backbone, model, own, material.held, seed=seed, dtype=torch.float32, zoom=1.0)

    def judge(self, model: DetectionModel, views: FrozenViews, *, labels: Sequence[str] | None = None) -> Judgement:
        """Answer all held-out pictures. `labels` are the model's own, if not the run's; only shared ones count.

        Raises Stopped.
        """
        held, run = self._material.held, self._run

        def answer(item: tuple[Picture, FrozenView]) -> NDArray[np.float32]:
            picture, view = item
            if run.stop():
                raise Stopped
            with torch.no_grad():
                found = model.forward(frozen.batch([view], self._backbone))
            placement = canvases.fit(picture.size, views.canvas)
            return answers.read(found, [placement], [picture.size])[0]

        outputs: list[NDArray[np.float32]] = []
        for start in range(0, len(held), _TOGETHER):
            some = held[start : start + _TOGETHER]
            read = views.read([(start + at, 0) for at in range(len(some))], stop=run.stop)
            outputs += in_parallel(answer, list(zip(some, read, strict=True)), threads=self._backbone.threads)
        places = [run.labels.index(label) if label in run.labels else -1 for label in labels or run.labels]
        boxes = tuple(_picture_boxes(output_M6, np.array(places)) for output_M6 in outputs)
        matches = match([each.truth for each in held], boxes, len(run.labels))
        tally = average_precision.tally(matches).by_group(self._material.group_N)
        return Judgement(boxes, matches, tally)

    def evaluation(self, judgement: Judgement) -> Evaluation:
        """Return the figures of a version for its report, and the score that its answers must reach."""
        run, held = self._run, self._material.held
        score = scores.score(judgement.tally, seed=run.request.seed)
        figures: dict[str, Any] = scores.describe(
            score, metric=run.task.metric, rows=len(held), validated=run.validation is not None
        )
        least = max(answers.LEAST_SCORE, box_errors.best_min_score(judgement.matches))
        errors = box_errors.count([each.truth for each in held], judgement.found, len(run.labels), min_score=least)
        rows, names = [each.row for each in held], [each.media.name for each in held]
        figures["detection"] = {
            **average_precision.describe(judgement.matches, run.labels, seed=run.request.seed),
            **box_errors.describe(errors, run.labels, rows, names),
        }
        return Evaluation(score, figures, thresholds=(least,))


def _picture_boxes(output_M6: NDArray[np.float32], place_K: NDArray[np.int64]) -> PictureBoxes:
    """Return boxes with a run's own labels, whose places are `place_K`; -1 is none of them."""
    label_M = place_K[output_M6[:, 5].astype(np.int64)]
    known_M6, label_M = output_M6[label_M >= 0], label_M[label_M >= 0]
    return PictureBoxes(known_M6[:, :4].astype(np.float64), label_M, known_M6[:, 4].astype(np.float64))
