"""How a version does on the held-out rows: the probability of their answers, or which of two answers it prefers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifacts.prompt import Prompt
from models.backbones.writing import DecoderBackbone
from models.learning.evaluation import scores
from models.learning.evaluation.scores import Comparison, Evaluation
from models.learning.generation import rows as token_rows
from models.learning.generation import scoring
from models.learning.generation.material import Material, Part
from models.learning.generation.network import WritingNetwork
from models.learning.generation.rows import TokenRow
from models.learning.generation.scoring import RowScores
from models.learning.generation.training_loop import Pair
from models.learning.run import Run
from models.learning.tasks.task import Tally, shares

PREFERENCE = "preference_accuracy"


@dataclass(frozen=True, slots=True)
class Judgement:
    """The scores of the held-out answers, and the tally by which versions are compared."""

    scores: RowScores
    tally: Tally
    margins: NDArray[np.float64] | None = None  # of pairs: how much likelier the better answer is

    @property
    def loss(self) -> float:
        """Negative log-probability per token."""
        return self.scores.loss

    def take(self, rows: NDArray[np.int64]) -> Judgement:
        """Return the judgement on some rows."""
        margins = None if self.margins is None else self.margins[rows]
        return Judgement(self.scores.take(rows), self.tally.take(rows), margins)


def judge(
    run: Run, backbone: DecoderBackbone, material: Material, network: WritingNetwork, prompt: Prompt
) -> Judgement:
    """Judge a network behind a prompt on all held-out rows."""
    held = material.held
    rows = held.tokens if not prompt.examples else encoded(backbone, held, prompt)
    found = scoring.score(network, rows, threads=backbone.threads, stop=run.stop)
    if not material.pairs:
        return Judgement(found, run.task.tally(None, found.chosen))
    worse = scoring.score(network, rejected(backbone, held, prompt), threads=backbone.threads, stop=run.stop)
    margins = found.log_probability_N - worse.log_probability_N
    return Judgement(found, run.task.tally(None, (margins > 0)[:, None]), margins)


def preference_loss(found: Judgement, base_N: NDArray[np.float64] | None, beta: float) -> float:
    """Return DPO's loss of held-out pairs against the base's margins."""
    assert found.margins is not None and base_N is not None  # noqa: S101, PT018  (the rows are pairs)
    return float(np.logaddexp(0.0, -beta * (found.margins - base_N)).mean())


def reward_accuracy(found: Judgement, base_N: NDArray[np.float64] | None) -> float:
    """Return the share of held-out pairs whose reward margin against the base's is positive; a gain of 0 is wrong."""
    assert found.margins is not None and base_N is not None  # noqa: S101, PT018  (the rows are pairs)
    return float((found.margins > base_N).mean())


def compare(new: Judgement, old: Judgement, *, seed: int) -> Comparison:
    """Return how much better `new` is; of pairs that both order alike, by how sure they are of the order."""
    found = scores.compare(new.tally, old.tally, seed=seed)
    if found.gain or new.margins is None or old.margins is None:
        return found
    return scores.compare(_by_margin(new.margins), _by_margin(old.margins), seed=seed)


def _by_margin(margins_N: NDArray[np.float64]) -> Tally:
    """Return the tally of the mean probability that the better answer is preferred (Bradley and Terry's model)."""
    return shares(np.exp(-np.logaddexp(0.0, -margins_N)), np.ones(len(margins_N)))


def evaluation(run: Run, material: Material, found: Judgement) -> Evaluation:
    """Return the figures of a version for its report."""
    seed = run.request.seed
    score = scores.score(found.tally, seed=seed)
    metric = PREFERENCE if material.pairs else run.task.metric
    validated = run.validation is not None
    figures: dict[str, Any] = scores.describe(
        score, metric=metric, rows=len(found.scores.tokens_N), validated=validated
    )
    return Evaluation(score, {**figures, "generation": found.scores.figures(seed)})


def encoded(backbone: DecoderBackbone, part: Part, prompt: Prompt) -> list[TokenRow]:
    """Return rows behind a prompt."""
    return [token_rows.encode(backbone, conversation, answer, prompt) for conversation, answer in part.texts]


def rejected(backbone: DecoderBackbone, part: Part, prompt: Prompt) -> list[TokenRow]:
    """Return the same rows with their worse answers."""
    return [
        token_rows.encode(
            backbone, conversation, replace(answer, text=answer.rejected or "", calls=answer.rejected_calls), prompt
        )
        for conversation, answer in part.texts
    ]


def pairs(
    backbone: DecoderBackbone, part: Part, prompt: Prompt, base: WritingNetwork, *, stop: Callable[[], bool]
) -> list[Pair]:
    """Return rows as pairs of which only the last answer counts, with the base's margin between them."""
    better = [_last_only(row) for row in part.tokens]
    worse = [_last_only(row) for row in rejected(backbone, part, prompt)]
    found = [scoring.score(base, rows, threads=backbone.threads, stop=stop) for rows in (better, worse)]
    margins = found[0].log_probability_N - found[1].log_probability_N
    return [Pair(*each) for each in zip(better, worse, margins.tolist(), strict=True)]


def _last_only(row: TokenRow) -> TokenRow:
    learned_T = row.learned_T.copy()
    learned_T[: row.asked] = False
    return replace(row, learned_T=learned_T)
