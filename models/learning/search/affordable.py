"""What of a search fits into the time left: fewer epochs, one split, a cheaper candidate, before nothing at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from models.learning.search.budget import Budget
from models.learning.search.candidates import Candidate
from models.learning.search.policy import TrialPlan

# Shares of the epochs, in order: most of a gain comes with the first ones (LEAST_EPOCHS of `policy` is the first).
_EPOCHS = (1.0, 0.6, 0.4, 0.2)
# Of the time left: rates on a busy machine vary, and the answers to held-out rows are not in the work.
_SAFE = 0.8


@dataclass(frozen=True, slots=True)
class Reduced:
    """A candidate, with as many epochs as fit, and the splits on which it is tried."""

    candidate: Candidate
    trials: TrialPlan


def reductions(
    favourite: Candidate, candidates: Sequence[Candidate], trials: TrialPlan, *, epochs_fixed: bool
) -> Iterator[Reduced]:
    """Yield what may be done, the best first: the favourite as it is, for shorter, on one split; then the cheapest.

    `epochs_fixed`: the customer's own number, which is never changed. `partial-4` costs a sixth less than
    `partial`.
    """
    one_split = replace(trials, used=1, least=1)
    cheaper = sorted((each for each in candidates if each.weight < favourite.weight), key=lambda each: each.weight)
    shares = _EPOCHS[:1] if epochs_fixed else _EPOCHS
    yield Reduced(favourite, trials)
    for share in shares[:2]:
        yield Reduced(_shortened(favourite, share), trials)
        yield Reduced(_shortened(favourite, share), one_split)
    for share in shares[1:] or shares:
        for candidate in (favourite, *cheaper[:1]):
            yield Reduced(_shortened(candidate, share), one_split)


def find(reduced: Iterator[Reduced], budget: Budget, rows: int) -> Reduced | None:
    """Return the first that ends within the budget; None if none does. Two fits at least have to be set up."""
    for each in reduced:
        if budget.affords(each.candidate.work(each.trials.work(rows)), share=_SAFE, set_ups=each.trials.least + 1):
            return each
    return None


def _shortened(candidate: Candidate, share: float) -> Candidate:
    return candidate.lasting(max(1, round(share * candidate.config.epochs)))
