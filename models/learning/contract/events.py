"""Events of a training run while it goes on: frozen, in this order.

`Progress* (VersionReady Progress*)+ Finished`. They cross a process boundary as JSON lines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.learning.contract.comparison import LiveComparison
from models.learning.contract.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the run. `step` is one of `reading, encoding, fitting, refining, evaluating, writing`."""

    step: str
    percent: float  # 0 to 100 over the whole run
    message: str = ""
    seconds_remaining: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # loss, epoch, learning_rate, validation scores


@dataclass(frozen=True, slots=True)
class VersionReady:
    """A trained version, complete on disk and servable now."""

    name: str  # "head", "lora", "partial", …: unique in one run, the same in every attempt of it
    artifact_dir: Path
    metrics: dict[str, float]  # the headline numbers: score, score_low, score_high, …
    report: dict[str, Any]
    improves: bool  # better than the run's earlier candidates on the same held-out rows (the first one: True)
    servable_before_end: bool = True  # publish at once; False: only the final decision counts


@dataclass(frozen=True, slots=True)
class Finished:
    """The end: which candidate is the best and the whole report."""

    best: str
    report: dict[str, Any]
    trained_rows: int
    trained_tokens: int
    seconds: float
    outcomes: tuple[Outcome, ...] = ()  # what later runs may learn from
    comparison: LiveComparison | None = None  # of the best version with the live one, where the request names one


TrainEvent = Progress | VersionReady | Finished
_KINDS: dict[str, type[Progress] | type[VersionReady] | type[Finished]] = {
    "progress": Progress,
    "candidate": VersionReady,
    "finished": Finished,
}


def to_dict(event: TrainEvent) -> dict[str, Any]:
    """A JSON-ready form with a `kind`; `from_dict` reads it back."""
    data = asdict(event)
    if isinstance(event, VersionReady):
        data["artifact_dir"] = str(event.artifact_dir)
    kind = next(name for name, cls in _KINDS.items() if isinstance(event, cls))
    return {"kind": kind, **data}


def from_dict(data: dict[str, Any]) -> TrainEvent:
    """Read what `to_dict` wrote; raises KeyError for an unknown kind."""
    values = dict(data)
    cls = _KINDS[values.pop("kind")]
    if cls is VersionReady:
        values["artifact_dir"] = Path(values["artifact_dir"])
    if cls is Finished:
        values["outcomes"] = tuple(Outcome.from_dict(each) for each in values.get("outcomes", ()))
        compared = values.get("comparison")
        values["comparison"] = None if compared is None else LiveComparison.from_dict(compared)
    return cls(**values)
