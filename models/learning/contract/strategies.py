"""Which strategies a job may name, by what learns its task and the kind of its base: for the POST and for learners."""

from __future__ import annotations

from collections.abc import Mapping

from models.backbones.registry import BackboneEntry, Kind
from models.datasets import tasks
from models.learning.contract.errors import NoLinearLayers, UnsupportedMethod, UnsupportedStrategy
from models.learning.contract.request import STRATEGIES, Strategy

# A learner that is not here takes them all.
_OFFERED: Mapping[tuple[str, Kind], tuple[Strategy, ...]] = {
    ("encoder", "encoder"): ("auto", "zero-shot", "head", "lora", "partial", "full", "scratch"),
    ("generation", "decoder"): ("auto", "zero-shot", "few-shot", "lora", "partial", "full"),
    ("detection", "encoder"): ("auto", "head", "partial", "full"),
    ("detection", "detector"): ("auto", "head", "full"),  # what is below its heads is not cut into blocks
}


def offered(task: str, base: BackboneEntry) -> tuple[Strategy, ...]:
    """Return the strategies that there are for a task on a base, `auto` first. Raises UnknownTask."""
    return _OFFERED.get((tasks.find(task).learner, base.kind), STRATEGIES)


def check(strategy: str, task: str, base: BackboneEntry, *, linear: bool = True) -> None:
    """Raise UnsupportedStrategy, with those that there are, for one that the task does not have on such a base.

    `linear`: whether the base has linear layers. Raises NoLinearLayers for low-rank matrices beside none.
    """
    known = offered(task, base)
    if strategy not in known:
        raise UnsupportedStrategy(strategy=strategy, task=task, base=base.name, known=", ".join(known))
    if strategy == "lora" and not linear:
        raise NoLinearLayers(base=base.name)


def check_method(method: str, task: str) -> None:
    """Raise UnsupportedMethod for preferences (`dpo`) where no answers are written, of which one could be preferred."""
    if method == "dpo" and tasks.find(task).learner != "generation":
        raise UnsupportedMethod(method=method, task=task)
