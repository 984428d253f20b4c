"""Where a data set stands among the four situations of transfer learning. Both axes are measured, not asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.backbones.backbone import Backbone
from models.learning.data.ragged import Ragged, flat, spread
from models.learning.heads import zero_shot
from models.learning.heads.stacking import Stack
from models.learning.search.priors import SIMILAR
from models.learning.tasks.task import Floats, Targets, Task

# Rows per class, as a share of the feature width, from which own weights in the base pay more than they overfit.
_LARGE = 0.25


@dataclass(frozen=True, slots=True)
class Situation:
    """The measured numbers and the name that they amount to."""

    size: Literal["small", "large"]
    similarity: Literal["similar", "different"]
    rows: int
    classes: int
    rows_per_class: float  # of all rows where there are no classes
    rarest_class: int
    feature_width: int
    separability: float  # 0: chance, 1: perfect; out of fold, by the best head on frozen features
    depth_scores: dict[str, float]  # nearest class mean (or one direction), out of fold, by the depth of the features
    best_depth: int
    terms_beat_features: bool  # a head on the bare terms of the texts does better than one on frozen features

    def as_dict(self) -> dict[str, Any]:
        """For the report, with a sentence."""
        moves = {
            ("small", "similar"): "a head on frozen features, refined gently if that helps",
            ("large", "similar"): "a head first, then the top blocks or the whole base at a low rate",
            ("small", "different"): "a head on features of all depths",
            ("large", "different"): "the whole base, head first",
        }
        return {
            **asdict(self),
            "name": f"{self.size} and {self.similarity}",
            "usual_move": moves[self.size, self.similarity],
        }


def measure(
    features: Mapping[str, Floats],
    targets: Targets | Ragged,
    task: Task,
    fold_N: NDArray[np.int64],
    *,
    supports_K: NDArray[np.int64],
    score: float,
    outputs: int,
    backbone: Backbone,
    stack: Stack | None,
) -> Situation:
    """From frozen features (the base's probe of every depth, if it is there) and the head's out-of-fold score.

    A base that is beaten by the bare terms does not know the language, or the domain, however well classes separate.
    """
    width = backbone.width
    fold_U = spread(fold_N, targets)
    depth_scores: dict[str, float] = {}
    for depth in range(backbone.blocks + 1):
        if (mean_ND := features.get(backbone.probe(depth))) is not None:
            logits_NK = zero_shot.class_mean_logits(mean_ND, flat(targets), task.link, fold_U, outputs=outputs)
            chosen_NK = task.decide(task.link.mean_of(logits_NK), None)
            depth_scores[str(depth)] = task.tally(targets, chosen_NK).score
    rows_per_class = float(supports_K.mean()) if len(supports_K) else float(len(targets))
    chance = task.tally(targets, task.usual(targets, targets)).score
    separability = max(0.0, (score - chance) / max(1.0 - chance, 1e-9))
    beaten = stack is not None and stack.terms_beat_head
    return Situation(
        size="large" if rows_per_class >= _LARGE * width else "small",
        similarity="similar" if separability >= SIMILAR and not beaten else "different",
        rows=len(targets),
        classes=len(supports_K),
        rows_per_class=rows_per_class,
        rarest_class=int(supports_K.min()) if len(supports_K) else len(targets),
        feature_width=width,
        separability=separability,
        depth_scores=depth_scores,
        best_depth=int(max(depth_scores, key=lambda depth: depth_scores[depth])),
        terms_beat_features=beaten,
    )
