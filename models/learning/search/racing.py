"""Successive halving: candidates are refined shortly on a part of the rows, and the better half goes on.

All of a rung learn from the same rows and answer the same others, so that their losses compare pair by pair. What a
short refinement tells is who is worth a trial; whether anybody beats the head, only the trial tells.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.learning.contract.errors import Diverged
from models.learning.contract.events import TrainEvent
from models.learning.finetuning.splits import open_rung, stand_of
from models.learning.heads.first_version import FirstVersion
from models.learning.run import Run
from models.learning.search.budget import Budget, OverBudget
from models.learning.search.candidates import Candidate
from models.learning.search.policy import Rung, TrialPlan, plan_rungs
from models.learning.search.trials import HeldOutResults, Trial, attempt

# Behind the head by more than so many standard errors of the loss, and no better at answers: nobody comes close.
_HOPELESS = 2.0


@dataclass(slots=True)
class CandidateRun:
    """A candidate on its way, and what it has cost so far."""

    candidate: Candidate
    expected_relief: float
    left: str = "not entered"  # where it left: "rung 1", "trial", …
    rungs: dict[int, Trial] = field(default_factory=dict)
    trial: Trial | None = None  # of all parts
    seconds: float = 0.0
    row_epochs: float = 0.0
    tokens: int = 0

    @property
    def shown(self) -> Trial | None:
        """The longest look that was had at it."""
        return self.trial or (self.rungs[max(self.rungs)] if self.rungs else None)

    def describe(self) -> dict[str, Any]:
        """For `strategies_tried`."""
        common = {
            "name": self.candidate.name,
            "strategy": self.candidate.schedule.strategy.name,
            "left_at": self.left,
            "seconds": round(self.seconds, 3),
            "row_epochs": round(self.row_epochs),
            "tokens": self.tokens,
        }
        if self.left == "budget":
            common["abandoned"] = "it would have taken longer than the budget for refinement"
        trial = self.shown
        if trial is None:
            return common
        return {
            **common,
            "score": trial.new.score.value,
            "score_low": trial.new.score.low,
            "score_high": trial.new.score.high,
            "rows": len(trial.held.targets),
            "head_score_on_these_rows": trial.old.score.value,
            "gain": trial.comparison.gain,
            "gain_low": trial.comparison.low,
            "gain_high": trial.comparison.high,
            "probability_better": trial.comparison.probability,
            "mcnemar_p": trial.comparison.p_value,
            "log_loss": trial.new_loss,
            "head_log_loss": trial.old_loss,
            "log_loss_noise": trial.loss_noise,
            "epochs": trial.epochs,
            "blend": trial.blend,
            "curve": trial.curve,
        }


@dataclass(slots=True)
class Meter:
    """Adds to an entry what happens while it is open."""

    run: Run
    clock: Budget
    entry: CandidateRun
    _began: tuple[float, float, int] = (0.0, 0.0, 0)

    def __enter__(self) -> None:
        self._began = (time.monotonic(), self.clock.done, self.run.tokens_used)

    def __exit__(self, *error: object) -> None:
        began, done, tokens = self._began
        self.entry.seconds += time.monotonic() - began
        self.entry.row_epochs += (self.clock.done - done) / self.entry.candidate.weight
        self.entry.tokens += self.run.tokens_used - tokens


def race(
    run: Run, first: FirstVersion, entries: Sequence[CandidateRun], plan: TrialPlan, clock: Budget
) -> Generator[TrainEvent, None, CandidateRun | None]:
    """The last one standing, None if nobody comes close to the head. Raises OverBudget if not even one fits."""
    standing = list(entries)
    for rung in plan_rungs(len(standing), rows=run.rows_read):
        yield from _climb(run, first, standing, rung, plan, clock)
        ranked = sorted((entry for entry in standing if rung.number in entry.rungs), key=lambda e: _loss(e, rung))
        if not ranked:
            return None
        if all(_hopeless(entry.rungs[rung.number]) for entry in ranked):
            return None
        standing = ranked[: max(1, len(ranked) // 2)]
        if len(standing) == 1:
            break
    for entry in standing:
        entry.left = "trial"
    return standing[0]


def work_of(entry: CandidateRun, rung: Rung, rows: int) -> float:
    """Of one candidate on one rung."""
    return min(rows, rung.rows) * rung.epochs(entry.candidate) * entry.candidate.weight


def _climb(  # noqa: PLR0917
    run: Run, first: FirstVersion, standing: Sequence[CandidateRun], rung: Rung, plan: TrialPlan, clock: Budget
) -> Generator[TrainEvent, None, None]:
    """Refine everybody on this rung, the best expectation first; the budget may end it after the first one."""
    part = open_rung(run, plan, rung)
    stand = stand_of(run, first, part)  # the same for all of them
    for entry in standing:
        more = work_of(entry, rung, len(part.train))
        needed = entry is standing[0]
        if not clock.affords(more) and not needed:
            entry.left = "budget"
            continue
        entry.left = f"rung {rung.number}"
        seen, done = HeldOutResults(run, first.stack), clock.done
        short = entry.candidate.lasting(rung.epochs(entry.candidate))
        try:
            with Meter(run, clock, entry):
                yield from attempt(run, first, short, part, stand, seen, clock, f"{short.name}, rung {rung.number}")
        except Diverged:
            entry.left = f"diverged on rung {rung.number}"
        except OverBudget:
            entry.left = "budget"
            if needed:
                for other in standing[1:]:
                    other.left = "budget"
                raise
            clock.total -= more - (clock.done - done)
        else:
            entry.rungs[rung.number] = seen.best_moment()


def _loss(entry: CandidateRun, rung: Rung) -> float:
    return entry.rungs[rung.number].new_loss


def _hopeless(trial: Trial) -> bool:
    return trial.comparison.gain <= 0 and trial.new_loss > trial.old_loss + _HOPELESS * trial.loss_noise
