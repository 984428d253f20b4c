"""The candidates that refinement may try: which make sense for a base, a task and a situation, and what a row costs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.learning.finetuning.strategies import STRATEGIES, TrainingConfig, settle
from models.learning.heads.first_version import FirstVersion
from models.learning.run import Run

# Rows from which a base of random weights may catch up with a pretrained one that knows nothing of the domain.
_SCRATCH_ROWS = 20_000
# Up to here only low-rank matrices are tried. Sixty questions in six classes, three draws: 0.685 against 0.605 of top
# blocks and 0.594 of everything.
_LOW_RANK_ROWS = 100
HANDFUL = 200  # rows; here everything and top blocks differ by less than 0.1 points (154 and 150 rows)
# Gradients cost two passes through what trains; through what does not, low-rank matrices still need one.
_GRADIENTS, _PASSED_GRADIENTS = 2.0, 1.25


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to refine. `weight` is what a row costs in an epoch, in passes through the whole frozen base."""

    name: str  # unique among the candidates of a run
    schedule: TrainingConfig
    weight: float

    def lasting(self, epochs: int) -> Candidate:
        """The same with another number of epochs."""
        return replace(self, schedule=replace(self.schedule, epochs=epochs))


def asked(run: Run, name: str) -> Candidate:
    """The one that the customer named. Raises InvalidHyperparameters."""
    return _contender(run, name)


def line_up(run: Run, first: FirstVersion) -> list[Candidate]:
    """What makes sense here, the usual choice first.

    The whole base is worth its cost where the data are large or unlike what the base knows; random weights only where
    both are so. Where a few blocks are all of them, that is one candidate and not two. Of very few rows the fewest
    parameters learn best, and a race on them would be a draw of lots; of a handful two candidates suffice, since there
    each is refined to its end before one is dropped.
    """
    blocks, situation = run.backbone.blocks, first.situation
    free = run.request.hyperparameters.trainable_blocks == "auto"
    found = [_contender(run, "partial")]
    if run.rows_read <= HANDFUL and run.backbone.linear and free:
        low_rank = _contender(run, "lora")
        return [low_rank] if run.rows_read <= _LOW_RANK_ROWS else [*found, low_rank]
    few = max(1, blocks // 3)
    most = found[0].schedule.own_blocks
    if free and most is not None and few < most:
        found.append(_contender(run, "partial", own_blocks=few))
    if run.backbone.linear:
        found.append(_contender(run, "lora"))
    if situation.size == "large" or situation.similarity == "different":
        found.append(_contender(run, "full"))
    if situation.similarity == "different" and run.rows_read >= _SCRATCH_ROWS:
        found.append(_contender(run, "scratch"))
    return found


def every(run: Run) -> list[Candidate]:
    """Every strategy by itself: what trying them all would mean."""
    return [_contender(run, name) for name in STRATEGIES if name != "lora" or run.backbone.linear]


def _contender(run: Run, name: str, *, own_blocks: int | None = None) -> Candidate:
    blocks = run.backbone.blocks
    schedule = settle(STRATEGIES[name], run.request.hyperparameters, rows=len(run.training.corpus), blocks=blocks)
    if own_blocks is not None:
        schedule, name = replace(schedule, own_blocks=own_blocks), f"{name}-{own_blocks}"
    if schedule.low_rank:
        return Candidate(name, schedule, 1.0 + _PASSED_GRADIENTS)
    trained = blocks if schedule.own_blocks is None else schedule.own_blocks
    return Candidate(name, schedule, 1.0 + _GRADIENTS * trained / blocks)
