"""The situation of a data set among the four of transfer learning. Both axes are measured, not asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from models.learning.data.ragged import flat, spread
from models.learning.evaluation import answer_count
from models.learning.evaluation.assessment import HeldOut, assess
from models.learning.heads import zero_shot
from models.learning.heads.encoding import EncodedRun
from models.learning.heads.first_version import FirstVersion
from models.learning.search import policy


@dataclass(frozen=True, slots=True)
class Situation:
    """Measured numbers of a job's rows, as the report states them, and the class that they amount to.

    What later jobs compare themselves with is a part of it: `contract.outcomes.Circumstances`.
    """

    size: Literal["small", "large"]
    similarity: Literal["similar", "different"]
    rows: int
    answers: float  # of the head on these rows: spans or labels where a row has several
    classes: int
    rows_per_class: float  # of all rows where there are no classes
    rarest_class: int
    feature_width: int
    separability: float  # 0: chance, 1: perfect; out of fold, by the best head on frozen features
    depth_scores: dict[str, float]  # nearest class mean (or one direction), out of fold, by the depth of the features
    best_depth: int
    terms_beat_features: bool  # a head on n-grams alone does better than one on frozen features

    def as_dict(self) -> dict[str, Any]:
        """Return it for the report, with a sentence."""
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


def measure(run: EncodedRun, first: FirstVersion) -> Situation:
    """Measure it from frozen features (the base's probe of every depth there is) and the head's out-of-fold score."""
    task, targets, choice = run.task, run.training.corpus.targets, first.choice
    supports_K = task.supports(targets, run.labels)
    rows_per_class = float(supports_K.mean()) if len(supports_K) else float(len(targets))
    assessment = assess(choice.logits_NK, HeldOut(targets, choice.fold_N), task, seed=run.request.seed)
    score = assessment.score.value
    chance = task.tally(targets, task.majority(targets, targets)).score
    separability = max(0.0, (score - chance) / max(1.0 - chance, 1e-9))
    beaten = first.stack is not None and first.stack.ngrams_beat_head
    depth_scores = _scores_by_depth(run, first)
    return Situation(
        size=policy.size_of(rows_per_class, run.backbone.width),
        similarity=policy.similarity_of(separability, terms_beat_features=beaten),
        rows=len(targets),
        answers=round(answer_count.count(assessment.tally, assessment.score), 1),
        classes=len(supports_K),
        rows_per_class=rows_per_class,
        rarest_class=int(supports_K.min()) if len(supports_K) else len(targets),
        feature_width=run.backbone.width,
        separability=separability,
        depth_scores=depth_scores,
        best_depth=int(max(depth_scores, key=lambda depth: depth_scores[depth])),
        terms_beat_features=beaten,
    )


def _scores_by_depth(run: EncodedRun, first: FirstVersion) -> dict[str, float]:
    task, targets = run.task, run.training.corpus.targets
    fold_U = spread(first.choice.fold_N, targets)
    scores: dict[str, float] = {}
    for depth in range(run.backbone.blocks + 1):
        if (mean_ND := run.training.features.get(run.backbone.probe(depth))) is not None:
            logits_NK = zero_shot.class_mean_logits(mean_ND, flat(targets), task.link, fold_U, outputs=run.outputs)
            chosen_NK = task.decide(task.link.mean_of(logits_NK), None)
            scores[str(depth)] = task.tally(targets, chosen_NK).score
    return scores
