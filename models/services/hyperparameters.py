"""A customer's settings for training, checked when the job is submitted."""

from __future__ import annotations

import difflib
import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from models.backbones.registry import BackboneEntry
from models.datasets.rare_labels import RULES
from models.learning.contract.request import STRATEGIES, Hyperparameters
from models.services.errors import (
    InvalidHyperparameter,
    InvalidSeed,
    UnknownHyperparameter,
    UnknownStrategy,
)

MAX_SEED = 2**31 - 1
_NAME_CHARS = 40


@dataclass(frozen=True, slots=True)
class _Range:
    """Numbers from `low` to `high`; `whole`: integers only; `above`: `low` itself is out."""

    low: float
    high: float
    whole: bool = False
    above: bool = False

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"{kind} {start} up to {self.high:g}"

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        if self.whole and value != int(value):
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high


RANGES = {
    "n_epochs": _Range(1, 1_000, whole=True),
    "batch_size": _Range(1, 4_096, whole=True),
    "learning_rate": _Range(0, 1, above=True),
    "learning_rate_multiplier": _Range(0, 100, above=True),
    "lora_rank": _Range(1, 256, whole=True),
    "trainable_blocks": _Range(1, 1_000, whole=True),
    "regularization": _Range(0, 1e6, above=True),
    "min_rows_per_label": _Range(1, 10_000, whole=True),
    "beta": _Range(0, 10, above=True),
}
_CHOICES = {"rare_labels": RULES, "method": ("supervised", "dpo"), "long_rows": ("cut", "refuse")}
_NAMES = tuple(field.name for field in fields(Hyperparameters))


def check_hyperparameters(values: dict[str, Any] | None, base: BackboneEntry) -> dict[str, Any]:
    """Return all hyperparameters, `"auto"` where none was set.

    Raises UnknownHyperparameter with the nearest known name, and InvalidHyperparameter with the range.
    """
    checked: dict[str, Any] = dict.fromkeys(_NAMES, "auto")
    for name, value in (values or {}).items():
        param = f"hyperparameters.{name}"[:80]
        if name not in checked:
            raise UnknownHyperparameter(
                name=name[:80], hint=_nearest(name, _NAMES), known=", ".join(_NAMES), param=param
            )
        if value is None or value == "auto":
            continue
        checked[name] = _check(name, value, base, param)
    return checked


def check_strategy(name: str | None) -> str:
    """Return the strategy, `auto` if none is named. Raises UnknownStrategy."""
    if name is None:
        return "auto"
    if name not in STRATEGIES:
        raise UnknownStrategy(name=name[:80], hint=_nearest(name, STRATEGIES), known=", ".join(STRATEGIES))
    return name


def check_seed(seed: int | None) -> int:
    """Return the seed; one is drawn if none is given, and shown on the job. Raises InvalidSeed."""
    if seed is None:
        return secrets.randbelow(MAX_SEED + 1)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InvalidSeed(got=str(seed)[:80])
    return seed


def _check(name: str, value: Any, base: BackboneEntry, param: str) -> Any:
    got = repr(value)[:80]
    if name == "features":
        if not isinstance(value, str) or not 1 <= len(value) <= _NAME_CHARS or not value.isprintable():
            raise InvalidHyperparameter(name=name, expected="a name", got=got, param=param)
        return value
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise InvalidHyperparameter(name=name, expected=" or ".join(_CHOICES[name]), got=got, param=param)
        return value
    if name == "lexical":
        if not isinstance(value, bool):
            raise InvalidHyperparameter(name=name, expected="true or false", got=got, param=param)
        return value
    bounds = RANGES[name]
    if name == "trainable_blocks":
        bounds = replace(bounds, high=base.blocks)
    if not bounds.holds(value):
        raise InvalidHyperparameter(name=name, expected=str(bounds), got=got, param=param)
    return int(value) if bounds.whole else float(value)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
