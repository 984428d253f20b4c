"""Learning rates of a search: a candidate that begins by losing what the head knew begins again, more slowly.

A fit starts from a fitted head on the frozen base (linear probing, then fine-tuning: Kumar et al., arXiv:2202.10054). A
rate that suits a thousand steps throws that head away in the first epoch of a hundred, and the rest only climbs back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from models.learning.data.ragged import Ragged
from models.learning.evaluation import calibration
from models.learning.finetuning.splits import HeadBaseline, Split
from models.learning.finetuning.training_loop import Epoch
from models.learning.heads.linear import Floats
from models.learning.search.candidates import Candidate
from models.learning.tasks.link_functions import LinkFunction
from models.learning.tasks.task import Targets

# At 0.3 of the rate the first epoch is better than the head on two intent sets with 10 rows per class, where the whole
# rate loses 5 to 6 points; the end is 0.6 and 1.8 points better. Twice at most.
SLOWER = 0.3
_LEAST_SHARE = 0.2
_CLEAR = 2.0  # standard errors of the loss behind the head


class LosesHead(Exception):
    """The first epoch answers held-out rows clearly worse than the head that it began with."""


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Shares of their rates at which the candidates of a run train. `fixed`: the customer named a rate."""

    fixed: bool
    _shares: dict[str, float] = field(default_factory=dict)

    def apply(self, candidate: Candidate) -> Candidate:
        """Return the candidate at the rate that was found for it."""
        share, config = self._shares.get(candidate.name, 1.0), candidate.config
        rates = {name: share * getattr(config, name) for name in ("learning_rate", "head_learning_rate")}
        return replace(candidate, config=replace(config, **rates)) if share < 1.0 else candidate

    def name_of(self, candidate: Candidate, fit: str) -> str:
        """Return the name of a fit at the candidate's rate: its checkpoints are of that rate alone."""
        share = self._shares.get(candidate.name, 1.0)
        return fit if share == 1.0 else f"{fit}-rate-{share:.2g}"

    def may_slow(self, candidate: Candidate) -> bool:
        """Return whether a lower rate is left to try."""
        if self.fixed or candidate.config.strategy.random_weights:  # there is nothing to lose
            return False
        return self._shares.get(candidate.name, 1.0) > _LEAST_SHARE

    def slow(self, candidate: Candidate) -> None:
        """Train the candidate more slowly from now on."""
        self._shares[candidate.name] = self._shares.get(candidate.name, 1.0) * SLOWER


def check_first_epoch(epoch: Epoch, baseline: HeadBaseline, split: Split, link: LinkFunction) -> None:
    """Raise LosesHead if an epoch's held-out loss is clearly above that of the head on the same rows."""
    if loses_head(epoch.held_logits_NK, baseline.logits_NK, split.held_targets, link):
        raise LosesHead


def loses_head(new_NK: Floats, head_NK: Floats, targets: Targets | Ragged, link: LinkFunction) -> bool:
    """Return whether logits have clearly more loss than the head's, each at its best temperature."""
    new_U, head_U = (
        calibration.losses(logits_NK, targets, link, calibration.fit_temperature(logits_NK, targets, link))
        .double()
        .numpy()
        for logits_NK in (new_NK, head_NK)
    )
    more_U = new_U - head_U
    return bool(more_U.mean() > _CLEAR * more_U.std() / len(more_U) ** 0.5)
