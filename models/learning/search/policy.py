"""The policy of `auto`: every rule as a function of plain values, every constant with its reason, as a job meets them.

Candidates are named after their strategies; `partial-2` is `partial` with another number of blocks. How they race and
are tried, once it is decided that they are, is in `trial_plans`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

# --- What the data are like

# Rows per class, as a share of the feature width, from which own weights in the base pay more than they overfit.
LARGE = 0.25
# Share of the way from chance to perfection that frozen features go, from which the base knows the domain.
SIMILAR = 0.7


def size_of(rows_per_class: float, feature_width: int) -> Literal["small", "large"]:
    """Return "large" where there are enough rows for weights of their own."""
    return "large" if rows_per_class >= LARGE * feature_width else "small"


def similarity_of(separability: float, *, terms_beat_features: bool) -> Literal["similar", "different"]:
    """Return "similar" where the base knows the domain: not where n-grams alone do better."""
    return "similar" if separability >= SIMILAR and not terms_beat_features else "different"


# --- Which candidates make sense

# Rows from which a base of random weights may catch up with a pretrained one that knows nothing of the domain.
SCRATCH_ROWS = 20_000
# Up to here rows are contrasted if they can be, and low-rank matrices are tried where that fails. Sixty questions in
# six classes, three draws: 0.685 against 0.605 of top blocks and 0.594 of everything.
LOW_RANK_ANSWERS = 100
# Learning from pairs of rows: its name, and the rows of a class from which both halves of a batch have pairs.
CONTRASTIVE, CONTRASTED_ROWS = "contrastive", 4
FAVOURED = 0.5  # share of the best expectation down to which they are contrasted first
# Answers; here everything and top blocks differ by less than 0.1 points (154 and 150 rows). Nothing races, either.
HANDFUL = 200


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Facts on which the choice of candidates depends."""

    rows: int  # of the training file
    answers: float  # of the head on them: see `answer_count`
    large: bool
    similar: bool
    blocks: int  # of the base
    linear_layers: bool  # the base has them: low-rank matrices stand beside linear layers
    partial_blocks: int | None  # that `partial` trains by default; None: the customer set the number
    contrasted_rows: float = 0.0  # of a class, if they are texts of one label each; else 0


def list_strategies(job: JobFacts) -> list[tuple[str, int | None]]:
    """Return (strategy, top blocks that train if not its own number) of what makes sense, the default choice first.

    The whole base is worth its cost where the data are large or unlike what the base knows; random weights only where
    the data are unlike it and very many. Of very few answers the fewest parameters learn best; of a handful two
    candidates suffice, which are tried in turn.
    """
    if job.answers <= HANDFUL and job.linear_layers and job.partial_blocks is not None:
        if job.answers <= LOW_RANK_ANSWERS:
            contrasted = [(CONTRASTIVE, None)] if job.contrasted_rows >= CONTRASTED_ROWS else []
            return [*contrasted, ("lora", None)]
        return [("partial", None), ("lora", None)]
    found: list[tuple[str, int | None]] = [("partial", None)]
    few = max(1, job.blocks // 3)
    if job.partial_blocks is not None and few < job.partial_blocks:
        found.append(("partial", few))
    if job.linear_layers:
        found.append(("lora", None))
    if job.large or not job.similar:
        found.append(("full", None))
    if not job.similar and job.rows >= SCRATCH_ROWS:
        found.append(("scratch", None))
    return found


# --- What to expect, and when outcomes of earlier jobs count

# Share of the head's errors that refinement has taken away where it helped at all: little where frozen features tell
# the classes apart, much where they do not (60 questions in six classes: 47 %).
DEFAULT_ERROR_REDUCTION, DIFFERENT_ERROR_REDUCTION = 0.08, 0.25
DEFAULT_JOBS = 1.0  # in the very same situation: as much as so many the default expectation counts
# From here on the mean of earlier outcomes is worth more than another trial on a few hundred rows: two jobs. No two
# situations are the same to the last digit, so 2 would ask for three.
KNOWN_JOBS = 1.5
UNKNOWN_ERROR_REDUCTION = 0.04  # how far the expectation of a candidate that is not known yet may be off
LEAST_EPOCHS = 0.6  # of the default number, whatever earlier jobs needed


def default_error_reduction(separability: float | None) -> float:
    """Return the share of errors that refinement may take away where no earlier job was in this situation."""
    different = separability is not None and separability < SIMILAR
    return DIFFERENT_ERROR_REDUCTION if different else DEFAULT_ERROR_REDUCTION


def expected_error_reduction(observed: Sequence[tuple[float, float]], default: float) -> float:
    """Return the mean of the default and of what earlier jobs `observed`: (nearness of the job, error reduction).

    What is worse than the head is never published: it counts as no reduction.
    """
    total = DEFAULT_JOBS * default + sum(nearness * max(0.0, reduction) for nearness, reduction in observed)
    return total / (DEFAULT_JOBS + sum(nearness for nearness, _ in observed))


def is_known(jobs: float) -> bool:
    """Return whether so many jobs in this situation, far ones counting less, make another rung unnecessary."""
    return jobs >= KNOWN_JOBS


def choose_epochs(observed: Sequence[tuple[float, int]], default: int) -> int:
    """Return as many as served earlier jobs, (nearness of the job, epochs); never less than most of the default."""
    jobs = sum(nearness for nearness, _ in observed)
    if not is_known(jobs):
        return default
    mean = sum(nearness * epochs for nearness, epochs in observed) / jobs
    return min(default, max(math.ceil(mean), math.ceil(LEAST_EPOCHS * default)))


# --- Whether any is worth trying, and which of them race

# As many answers change as this share of the errors: the noise of a paired comparison comes from those alone.
CHANGED_ANSWERS = 0.4


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision before anything is spent, and its reason."""

    strategy: str | None
    expected_gain: float
    noise: float  # standard error of a paired comparison of all answers
    reason: str


def worth_trying(expected: Mapping[str, float], *, score: float, answers: float) -> Verdict:
    """Decide to try where the errors leave more to win than the noise of a comparison on all `answers` can hide.

    `expected` are the error reductions of the candidates. Counted in rows instead, 200 sentences of many spans each
    were "less than noise", and lost 3.7 points of entity F1.
    """
    errors = 1.0 - score
    best = max(expected, key=lambda name: expected[name])
    gain = expected[best] * errors
    noise = (CHANGED_ANSWERS * errors / answers) ** 0.5
    if errors <= 0:
        return Verdict(None, gain, noise, "no held-out answer is wrong: nothing is left to win")
    to_win = f"about {_percent(gain)} to win"
    if gain <= noise:
        reason = f"the {_percent(errors)} errors leave {to_win}, less than the {_percent(noise)} that are noise"
        return Verdict(None, gain, noise, reason)
    return Verdict(best, gain, noise, f"{to_win} against {_percent(noise)} of noise")


def _percent(share: float) -> str:
    """Return a share in words, by its first digits: a small one is not nothing."""
    return f"{100 * share:.3g}%"


def choose_entrants(expected: Mapping[str, float], known: Set[str]) -> list[str]:
    """Return the candidates that race, the best expectation first: beside the best one all that may be better.

    A candidate that earlier jobs tried often enough is taken at its expectation; for the others it may be off. Where
    rows are contrasted each earlier score is one of a hundred answers or fewer: one alone does not change who is first.
    """
    ranked = sorted(expected, key=lambda name: -expected[name])
    if expected.get(CONTRASTIVE, 0.0) >= FAVOURED * expected[ranked[0]]:
        ranked.sort(key=lambda name: name != CONTRASTIVE)
    best = ranked[0]
    others = [
        name
        for name in ranked[1:]
        if expected[name] + (0.0 if name in known else UNKNOWN_ERROR_REDUCTION) > expected[best]
    ]
    return [best, *others]


def may_race(answers: float) -> bool:
    """Return whether candidates race; else they are tried in turn, until one is better than the head.

    A rung holds out a quarter of a handful, and noise decides: of 154 texts in 77 classes top blocks won the race and
    were no better than the head in their trial; low-rank matrices, which lost it, would have been (decision 0018).
    """
    return answers > HANDFUL


# --- Whether one improves on the head

# Probabilities of being better: no further split is tried beyond these two; the loss need not agree from the third on.
CLEAR_GAIN, CLEAR_FAILURE, LIKELY_GAIN = 0.98, 0.1, 0.9
CLEAR_LOSS = 1.645  # standard errors: one chance in twenty
HOPELESS = 2.0  # standard errors of the loss behind the head, and no better at answers


@dataclass(frozen=True, slots=True)
class TrialFigures:
    """A refined model beside the head on the same held-out rows."""

    answers: float
    gain: float  # of the score
    probability: float  # of being better
    new_loss: float
    old_loss: float  # of the head
    loss_noise: float  # standard error of the difference of the losses, row by row


def is_clear(probability: float) -> bool:
    """Return whether a trial may end before all of its splits were tried."""
    return not CLEAR_FAILURE < probability < CLEAR_GAIN


def improves(trial: TrialFigures) -> bool:
    """Return whether more answers are right, not by luck: the loss, which sees every margin, agrees, or it is clear.

    A handful of answers is too few to count: there a loss that is clearly less decides, unless they clearly disagree.
    """
    less_loss = trial.old_loss - trial.new_loss
    if trial.answers <= HANDFUL and less_loss > CLEAR_LOSS * trial.loss_noise:
        return trial.probability > CLEAR_FAILURE
    return trial.gain > 0 and (trial.probability >= LIKELY_GAIN or less_loss > 0)


def is_hopeless(trial: TrialFigures) -> bool:
    """Return whether a short refinement is too far behind the head for a longer one to catch up."""
    return trial.gain <= 0 and trial.new_loss > trial.old_loss + HOPELESS * trial.loss_noise
