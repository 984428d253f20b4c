"""The policy of `auto`: every rule as a function of plain values, every constant with its reason, as a job meets them.

Candidates are named after their strategies; `partial-2` is `partial` with another number of blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
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
# Up to here nothing races: rows are contrasted if they can be, and low-rank matrices are tried where that fails. Sixty
# questions in six classes, three draws: 0.685 against 0.605 of top blocks and 0.594 of everything.
LOW_RANK_ANSWERS = 100
# Learning from pairs of rows: its name, and the rows of a class from which both halves of a batch have pairs.
CONTRASTIVE, CONTRASTED_ROWS = "contrastive", 4
FAVOURED = 0.5  # share of the best expectation down to which they are contrasted first
HANDFUL = 200  # answers; here everything and top blocks differ by less than 0.1 points (154 and 150 rows)


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
    the data are unlike it and very many. Of very few answers the fewest parameters learn best, and a race on them would
    be decided by noise; of a handful two candidates suffice: each is refined to its end before one is dropped.
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


# --- How candidates are tried

# Fits of all rows whose weights are averaged, up to so many rows: they differ by half a point of luck (decision 0050).
FINAL_FITS, FEW_ROWS = 3, 2_000
LEAST_TRIAL_FITS = 2  # of a trial, from which the final ones are averaged with them: see the same decision
# Held out, where earlier jobs found the same: enough to distinguish a difference of five points from none.
CONFIRMING_ANSWERS = 100


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """Splits to hold out in turn: at most `used` of `folds`; from `least` on a clear answer ends the trial.

    The weights of the final fits are averaged.
    """

    folds: int
    used: int
    least: int = 1
    final_fits: int = 1  # on all rows, at most

    def work(self, rows: int) -> float:
        """Return the rows that are passed per epoch at least, the final fit on all of them included."""
        return rows * (self.least * self._trained_share + 1.0)

    def most_work(self, rows: int, *, final_fits: int = 1) -> float:
        """Return the same if no answer is clear before the last split, with so many final fits."""
        return rows * (self.used * self._trained_share + final_fits)

    def shortened(self, answers: float) -> TrialPlan:
        """Return half the splits, or one if it has enough answers: earlier outcomes count as well.

        A fit of all rows less, or what the search spares would go into those.
        """
        enough = self.folds > 1 and answers / self.folds >= CONFIRMING_ANSWERS
        used = 1 if enough else max(1, self.used // 2)
        return replace(self, used=used, least=1, final_fits=max(1, self.final_fits - 1))

    @property
    def _trained_share(self) -> float:
        return 1.0 if self.folds == 1 else (self.folds - 1) / self.folds


def plan_trials(answers: float, *, rows: int, validated: bool) -> TrialPlan:
    """Hold out each of few rows once, or the comparison drowns in noise; of many answers an eighth is plenty.

    Few rows of many answers each, as of several labels, are held out more than once: thresholds are tuned on them, and
    the fits are averaged. It does not depend on a clock: within the budget the same request gives the same model.
    """
    few = rows <= FEW_ROWS
    if validated:
        plan = TrialPlan(1, 1)
    elif answers <= 1_500:
        plan = TrialPlan(4, 4, least=2)
    elif answers <= 5_000:
        plan = TrialPlan(5, 3)
    else:
        plan = TrialPlan(8, 3 if few else 1)
    return replace(plan, least=min(plan.used, LEAST_TRIAL_FITS), final_fits=FINAL_FITS) if few else plan


# Answers of the first rung, to learn from and to compare, and its share of the epochs; each rung doubles both.
RUNG_ANSWERS, RUNG_HELD_ANSWERS, RUNG_EPOCHS = 2_000, 1_000, 0.4
LEAST_OF_ROW, MOST_OF_ROW = 0.5, 10.0  # answers: below, a rung would be the whole file, above, a few rows


@dataclass(frozen=True, slots=True)
class Rung:
    """A short refinement that decides which candidates go on: on so many rows, measured on so many others."""

    number: int  # from 1
    rows: int
    held: int
    share: float  # of the epochs

    def epochs(self, full: int) -> int:
        """Cut the candidate's `full` number short; the learning rate still falls to zero at their end.

        Two at least: in one, warm-up included, none has learned much.
        """
        return max(min(2, full), round(self.share * full))


def plan_rungs(candidates: int, *, rows: int, answers: float) -> list[Rung]:
    """Plan successive halving (Jamieson and Talwalkar 2016): a rung drops half and gives the others twice as much.

    A handful is refined to the end in seconds, and half-way no candidate has learned anything yet.
    """
    of_row = min(max(answers / rows, LEAST_OF_ROW), MOST_OF_ROW)
    learned, held = round(RUNG_ANSWERS / of_row), round(RUNG_HELD_ANSWERS / of_row)
    rungs: list[Rung] = []
    while candidates > 1:
        doubled = 2 ** len(rungs)
        share = 1.0 if answers <= HANDFUL else min(1.0, RUNG_EPOCHS * doubled)
        rungs.append(Rung(len(rungs) + 1, learned * doubled, held, share))
        candidates = survivors(candidates)
    return rungs


# Work of a whole race, as a share of what the favourite's trial and its fit on all rows take. On 5,452 rows the second
# rung cost more than the trial behind it, to tell apart two candidates that end at 0.970 and 0.972.
RACE_SHARE = 0.5


def worthwhile_rungs(work: Sequence[float], rest: float) -> int:
    """Return how many rungs are run, of which each costs so much `work`; `rest` is that of the favourite after them.

    Never none: the first one is the race.
    """
    total, count = 0.0, 0
    for each in work:
        total += each
        if count and total > RACE_SHARE * rest:
            break
        count += 1
    return count


def survivors(candidates: int) -> int:
    """Return how many of the candidates on a rung go on: the better half."""
    return max(1, candidates // 2)


# Refined models, and those half-way back to the fitted head on the frozen base, weight by weight (arXiv:2109.01903).
BLENDS = (1.0, 0.5)


def choose_moment(scores: Sequence[float], losses: Sequence[float], *, answers: float) -> int:
    """Return the index of the least loss among the moments whose score is within one standard error of the best.

    On few answers the best score alone is luck, and its epoch too early (Breiman et al. 1984).
    """
    top = max(scores)
    noise = (max(top * (1 - top), 0.01) / answers) ** 0.5
    return min((index for index, score in enumerate(scores) if score >= top - noise), key=lambda index: losses[index])


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
