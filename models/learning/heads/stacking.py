"""Head and n-gram part together (stacking): the share of each, decided on rows that neither was fitted to.

The logits of both, each at its own temperature, are mixed by a share. Where the base knows the language n-grams add
little, and a version without them costs less to serve: the share stays 0 unless the gain is more than noise. Where the
base was not trained on the like (another language, a vocabulary of codes) n-grams may be all that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.artifacts.parts import HeadWeights, Part
from models.backbones.parallel import in_parallel
from models.learning.data.folds import splits, subsample
from models.learning.evaluation import calibration
from models.learning.heads import ngrams
from models.learning.heads.cross_validation import FitContext
from models.learning.heads.linear import Floats, Head
from models.learning.heads.ngram_head import Fits, NgramHead, NgramVocabulary
from models.learning.heads.ngrams import Ints
from models.learning.tasks.link_functions import LinkFunction

_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# Within half a point of the best from 10 to 900 rows per class, on sets of 2 to 77 labels.
_INVERSE_PENALTY = 20.0
# So many rows are fitted in less than a second, enough to decide whether n-grams are worth a fit on all rows.
_PROBE_ROWS = 2_000
# Up to here all rows decide at once: fitting them takes seconds, and a clear gain on them may be noise on a probe.
_ALL_ROWS = 4_000
# Of all rows together: a hundred million n-grams would not fit beside the features.
_MOST_CHARACTERS = 2**24
# As many rows of the longest texts are within that.
_FEWEST_ROWS = 400
# Standard errors by which the mean loss of a row must fall.
_CLEAR = 2.0


@dataclass(frozen=True, slots=True)
class ScoreAndLoss:
    """Score and loss at its best temperature, out of fold."""

    score: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Stack:
    """A head with its n-gram part, `head_factor * head + share * part`, as measured on `rows` rows."""

    share: float  # of the n-gram part, each at its own temperature; 0: there is none
    head_factor: float
    part: NgramHead | None  # at its own temperature
    logits_NK: Floats  # out of fold, of both
    rows: int
    head: ScoreAndLoss
    ngram: ScoreAndLoss
    both: ScoreAndLoss
    ngrams_beat_head: bool  # the n-gram part alone is clearly better than the head alone
    might_help: bool  # both together have less loss than the head alone, be it by noise
    characters: int  # of a text that the n-gram part reads

    def answer(self, inputs: Sequence[str]) -> Floats | None:
        """Return the n-gram part's logits, (N, K); None if there is none."""
        return None if self.part is None else self.part.logits(ngrams.read(inputs, most=self.characters))

    def mix(self, head_NK: Floats, ngram_NK: Floats | None) -> Floats:
        """Return the logits of both together, (N, K)."""
        if ngram_NK is None:
            return head_NK
        return np.float32(self.head_factor) * head_NK + np.float32(self.share) * ngram_NK

    def variants(self, head_NK: Floats, targets: NDArray[Any], link: LinkFunction) -> list[Stack]:
        """Return the stacks to try beside another head, given its held-out logits; one of them has no n-gram part."""
        factor = 1.0 / calibration.fit_temperature(head_NK, targets, link)
        shares = (self.share / 2, self.share)
        return [
            replace(self, share=0.0, head_factor=1.0, part=None),
            *(replace(self, share=share, head_factor=(1 - share) * factor) for share in shares),
        ]

    def describe(self) -> dict[str, Any]:
        """Return the entry of the report."""
        return {
            "share": self.share,
            "terms": len(self.part.vocabulary.buckets_V) if self.part else 0,
            "rows": self.rows,
            **{
                name: {"score": measured.score, "log_loss": measured.log_loss}
                for name, measured in (("head", self.head), ("lexical", self.ngram), ("both", self.both))
            },
        }


def measure(
    inputs: Sequence[str],
    targets: NDArray[Any],
    head_NK: Floats,
    fold_N: Ints,
    context: FitContext,
    *,
    wanted: bool | None = None,
) -> Stack:
    """Decide the share out of fold and fit the n-gram part to all rows, if the share is above 0.

    `head_NK` are the head's out-of-fold logits by the folds `fold_N`; `wanted` True takes the best share above 0
    even where it is no clear gain.
    """
    strata_N, seed = context.task.strata(targets), context.seed

    def find_share_on(rows: Ints) -> Stack:
        return _find_share([inputs[row] for row in rows], targets[rows], head_NK[rows], fold_N[rows], context, wanted)

    # Drawn anew: the folds were dealt with `seed`, and the same draw would be one of them.
    affordable = _affordable(inputs, context.characters)
    if len(inputs) > _ALL_ROWS:
        stack = find_share_on(subsample(strata_N, min(_PROBE_ROWS, affordable), seed=seed + 1))
        if stack.part is None and not stack.might_help:
            return replace(stack, logits_NK=head_NK)
    rows = subsample(strata_N, affordable, seed=seed + 1)
    stack = find_share_on(rows)
    logits_NK = head_NK.copy()
    if stack.part is not None:
        # The part was not fitted to the other rows: its logits of them are as good as held out.
        others = np.setdiff1d(np.arange(len(inputs)), rows)
        logits_NK[rows] = stack.logits_NK
        logits_NK[others] = stack.mix(head_NK[others], stack.answer([inputs[row] for row in others]))
    return replace(stack, logits_NK=logits_NK)


def refit(
    stack: Stack, inputs: Sequence[str], targets: NDArray[Any], held: Sequence[str], context: FitContext
) -> Floats | None:
    """Fit the stack's n-gram part to these rows alone and return its logits of `held`; None if it has none."""
    if stack.part is None:
        return None
    rows = subsample(context.task.strata(targets), _affordable(inputs, context.characters), seed=context.seed)
    _, part = _fit([inputs[row] for row in rows], targets[rows], context)
    return part().scaled(stack.part.factor).logits(ngrams.read(held, most=context.characters))


def parts_of(head: Head, stack: Stack | None) -> tuple[Part, ...]:
    """Return what an artifact holds of a head, and of the n-gram part added to it.

    Of values it answers standardised ones: a mean folded into the bias, in float32, would leave nothing of what they
    differ by if they are large beside that. The manifest has the scale.
    """
    if stack is None or stack.part is None:
        return (HeadWeights(torch.from_numpy(head.weight_KF), torch.from_numpy(head.bias_K)),)
    factor, part = np.float32(stack.head_factor), stack.part.scaled(stack.share)
    weight_KF = torch.from_numpy(factor * head.weight_KF)
    bias_K = torch.from_numpy(factor * head.bias_K + part.bias_K)
    return HeadWeights(weight_KF, bias_K), part.weights()


def _affordable(inputs: Sequence[str], most: int) -> int:
    """Return how many rows may be fitted, `most` characters of each: their n-grams have to fit into memory."""
    characters = sum(min(len(text), most) for text in inputs)
    return max(_FEWEST_ROWS, len(inputs) * _MOST_CHARACTERS // max(characters, 1))


def _find_share(  # noqa: PLR0917
    inputs: Sequence[str],
    targets: NDArray[Any],
    head_NK: Floats,
    fold_N: Ints,
    context: FitContext,
    wanted: bool | None,
) -> Stack:
    link = context.task.link
    fits, part = _fit(inputs, targets, context)
    ngram_NK = _out_of_fold(fits, fold_N, context)
    head_factor, factor = (
        1.0 / calibration.fit_temperature(logits_NK, targets, link) for logits_NK in (head_NK, ngram_NK)
    )
    tried = {}
    for share in _SHARES:
        factors = np.float32((1 - share) * head_factor), np.float32(share * factor)
        tried[share] = _MixedLogits(factors[0] * head_NK + factors[1] * ngram_NK, targets, context)
    head, ngram = tried[0.0], tried[1.0]
    share = min((share for share in _SHARES if share > 0), key=lambda share: tried[share].losses_N.mean())
    both = tried[share]
    beaten = ngram.score > head.score and _clearly_less(ngram.losses_N, head.losses_N)
    if not (wanted or (both.score >= head.score and _clearly_less(both.losses_N, head.losses_N))):
        less = bool(both.losses_N.mean() < head.losses_N.mean())
        return Stack(
            0.0,
            1.0,
            None,
            head_NK,
            len(inputs),
            head.measured,
            ngram.measured,
            head.measured,
            beaten,
            less,
            context.characters,
        )
    return Stack(
        share=share,
        head_factor=(1 - share) * head_factor,
        part=part().scaled(factor),
        logits_NK=both.logits_NK,
        rows=len(inputs),
        head=head.measured,
        ngram=ngram.measured,
        both=both.measured,
        ngrams_beat_head=beaten,
        might_help=True,
        characters=context.characters,
    )


def _fit(inputs: Sequence[str], targets: NDArray[Any], context: FitContext) -> tuple[Fits, Callable[[], NgramHead]]:
    """Return the rows prepared for fits, and the function that fits an n-gram part to all of them."""
    found = ngrams.read(inputs, most=context.characters)
    vocabulary = NgramVocabulary.learn(found, outputs=context.outputs)
    fits = Fits(
        vocabulary.weigh(found),
        torch.from_numpy(targets),
        context.task.link,
        outputs=context.outputs,
        check_stop=context.check_stop,
    )

    def part() -> NgramHead:
        weight_VK, bias_K = fits.fit_all(_INVERSE_PENALTY)
        return NgramHead(vocabulary, weight_VK.astype(np.float16), bias_K)

    return fits, part


class _MixedLogits:
    """Out-of-fold logits at one share, their losses and their score."""

    def __init__(self, logits_NK: Floats, targets: NDArray[Any], context: FitContext) -> None:
        task, link = context.task, context.task.link
        self.logits_NK = logits_NK
        temperature = calibration.fit_temperature(logits_NK, targets, link)
        self.losses_N: NDArray[np.float32] = calibration.losses(logits_NK, targets, link, temperature).numpy()
        probabilities_NK = calibration.probabilities(logits_NK, link, temperature)
        chosen_NK = task.decide(probabilities_NK, task.tune_thresholds(targets, probabilities_NK))
        self.score = task.tally(targets, chosen_NK).score

    @property
    def measured(self) -> ScoreAndLoss:
        """Score and mean loss."""
        return ScoreAndLoss(self.score, float(self.losses_N.mean()))


def _out_of_fold(fits: Fits, fold_N: Ints, context: FitContext) -> Floats:
    logits_NK = np.empty((len(fold_N), context.outputs), dtype=np.float32)

    def fit_fold(part: tuple[Ints, Ints]) -> None:
        context.check_stop()
        train, held = part
        logits_NK[held] = fits.fit(train, held, _INVERSE_PENALTY)

    for _ in in_parallel(fit_fold, splits(fold_N), threads=context.threads):
        pass
    return logits_NK


def _clearly_less(new_N: NDArray[np.float32], old_N: NDArray[np.float32]) -> bool:
    """Return whether the mean loss fell by more than its own noise, row by row."""
    gain_N = old_N - new_N
    return bool(gain_N.mean() > _CLEAR * gain_N.std() / len(gain_N) ** 0.5)
