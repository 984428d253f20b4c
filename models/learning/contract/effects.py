"""Which hyperparameters a version by each strategy is made with; what is set beside them has no effect on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.datasets.tasks import TASKS
from models.learning.contract.request import STRATEGIES, Hyperparameters, Strategy

_ROWS = frozenset(
    {"min_rows_per_label", "rare_labels", "long_rows"}
)  # they decide what is read, whoever learns from it
_HEAD = frozenset({"regularization", "features", "lexical"})
_STEPS = frozenset({"n_epochs", "batch_size", "learning_rate", "learning_rate_multiplier"})
_WRITTEN = _STEPS | {"method", "beta"}
_USED: Mapping[Strategy, frozenset[str]] = {
    "zero-shot": frozenset(),
    "few-shot": frozenset(),
    "head": _HEAD,
    "lora": _HEAD | _STEPS | {"lora_rank"},
    "partial": _HEAD | _STEPS | {"trainable_blocks"},
    "full": _HEAD | _STEPS,
    "scratch": _HEAD | _STEPS,
}
# What else than features and a head learns a task.
_USED_BY_LEARNER: Mapping[str, Mapping[str, frozenset[str]]] = {
    "generation": {
        "zero-shot": frozenset(),
        "few-shot": frozenset(),
        "lora": _WRITTEN | {"lora_rank"},
        "dpo": _WRITTEN | {"lora_rank"},
        "partial": _WRITTEN | {"trainable_blocks"},
        "full": _WRITTEN,
    },
    # A detector's head is trained step by step; there is no penalty to choose and there are no features to name.
    "detection": {
        "head-first": _STEPS,
        "head": _STEPS,
        "partial": _STEPS | {"trainable_blocks"},
        "full": _STEPS,
    },
}


def without_effect(strategy: str, task: str = "") -> list[str]:
    """Return the hyperparameters that a version by this strategy does not depend on; [] for one that is not known."""
    used = next((names for name, names in _used(task).items() if name == strategy), None)
    if used is None:
        return []
    return [name for name in Hyperparameters.__dataclass_fields__ if name not in used | _ROWS]


def warnings(strategy: str, asked: Mapping[str, Any], task: str = "") -> list[dict[str, Any]]:
    """Return the warning of hyperparameters that were set and have no effect on a version by this strategy."""
    names = [name for name in without_effect(strategy, task) if asked.get(name, "auto") != "auto"]
    if not names:
        return []
    takers = [name for name, used in _used(task).items() if name in STRATEGIES and used.issuperset(names)]
    known = f" {'It counts' if len(names) == 1 else 'They count'} with {' or '.join(takers)}." if takers else ""
    have = "has" if len(names) == 1 else "have"
    message = f"{' and '.join(names)} {have} no effect on a version by '{strategy}'.{known}"
    return [{"code": "no_effect", "message": message, "strategy": strategy, "hyperparameters": names}]


def _used(task: str) -> Mapping[str, frozenset[str]]:
    known = TASKS.get(task)
    own = None if known is None else _USED_BY_LEARNER.get(known.learner)
    return own or {str(name): names for name, names in _USED.items()}
