"""Which hyperparameters a version is made with, by its strategy and its task; what is set beside them has no effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from models.datasets.tasks import TASKS, kind
from models.learning.contract.request import STRATEGIES, Hyperparameters, Strategy

_RARE = frozenset({"min_rows_per_label", "rare_labels"})
_LONG = frozenset({"long_rows"})
_ROWS = _RARE | _LONG  # they decide what is read, whoever learns from it
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
# What the rows of a task have no use for, whatever the strategy. The n-gram part is for labels of one text; spans and
# values have no rare labels; models that write are the only ones that cut rows.
_IDLE: Mapping[str, frozenset[str]] = {
    "text-classification": _LONG,
    "multi-label-classification": _LONG,
    "text-pair-classification": _LONG | {"lexical"},
    "image-classification": _LONG | {"lexical"},
    "audio-classification": _LONG | {"lexical"},
    "text-regression": _LONG | _RARE | {"lexical"},
    "token-classification": _LONG | _RARE | {"lexical"},
    "object-detection": _LONG,
    "text-generation": _RARE,
}


def without_effect(strategy: str, task: str = "") -> list[str]:
    """Return the hyperparameters that a version by this strategy does not depend on; [] for one that is not known."""
    used = next((names for name, names in _used(task).items() if name == strategy), None)
    if used is None:
        return []
    return [name for name in Hyperparameters.__dataclass_fields__ if name not in used]


def warnings(strategy: str, asked: Mapping[str, Any], task: str = "") -> list[dict[str, Any]]:
    """Return the warning of hyperparameters that were set and have no effect on a version by this strategy."""
    names = [name for name in without_effect(strategy, task) if asked.get(name, "auto") != "auto"]
    if not names:
        return []
    of_task = [name for name in names if name in _idle(task)]
    others = [name for name in names if name not in of_task]
    takers = [name for name, used in _used(task).items() if name in STRATEGIES and used.issuperset(others)]
    known = f" {'It counts' if len(others) == 1 else 'They count'} with {' or '.join(takers)}." if takers else ""
    sentences = [f"{_have(of_task)} no effect on {task}."] if of_task else []
    if others:
        sentences.append(f"{_have(others)} no effect on a version by '{strategy}'.{known}")
    return [{"code": "no_effect", "message": " ".join(sentences), "strategy": strategy, "hyperparameters": names}]


def _have(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'}"


def _used(task: str) -> Mapping[str, frozenset[str]]:
    known = TASKS.get(task)
    own = None if known is None else _USED_BY_LEARNER.get(known.learner)
    by_strategy = own or {str(name): names for name, names in _USED.items()}
    return {name: (names | _ROWS) - _idle(task) for name, names in by_strategy.items()}


def _idle(task: str) -> frozenset[str]:
    return _IDLE.get(task, _IDLE.get(kind(task), frozenset()))
