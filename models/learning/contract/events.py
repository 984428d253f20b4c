"""Events of a training run while it goes on: frozen, in this order.

`Progress* [BaseChosen] Progress* (VersionReady Progress*)+ Finished`. They cross a process boundary as JSON lines.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.learning.contract.base_choice import BaseProbe
from models.learning.contract.comparison import LiveComparison
from models.learning.contract.outcomes import Outcome


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the run. `step` is one of `probing, reading, encoding, fitting, refining, evaluating, writing`."""

    step: str
    percent: float  # 0 to 100 over the whole run
    message: str = ""
    seconds_remaining: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # loss, epoch, learning_rate, validation scores


@dataclass(frozen=True, slots=True)
class BaseChosen:
    """The base that was chosen for a run that left the choice open; everything after it is of this base."""

    base: str
    reason: str
    metric: str = ""
    rows: int = 0  # of the probes
    probes: tuple[BaseProbe, ...] = ()
    seconds: float = 0.0
    reference: str = ""  # the base that the outcomes compare the others with
    outcomes: tuple[Outcome, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Return what a job and its report state."""
        found: dict[str, Any] = {"asked": "auto", "chosen": self.base, "reason": self.reason}
        if self.probes:
            probes = [
                {name: value for name, value in asdict(each).items() if value not in (None, "")} for each in self.probes
            ]
            found |= {"metric": self.metric, "rows": self.rows, "seconds": self.seconds, "probes": probes}
        return found


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
class CurvePoint:
    """One point of a run's loss curve: a step's of a detector and of a model that writes, an epoch's of others."""

    step: int  # from 1
    train_loss: float
    train_accuracy: float | None = None
    valid_loss: float | None = None
    valid_accuracy: float | None = None  # the score, where a point is an epoch


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
    curve: tuple[CurvePoint, ...] = ()  # of what was trained last; () where nothing was trained step by step


TrainEvent = Progress | BaseChosen | VersionReady | Finished
_KINDS: dict[str, type[Progress] | type[BaseChosen] | type[VersionReady] | type[Finished]] = {
    "progress": Progress,
    "base_chosen": BaseChosen,
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
    if cls in (Finished, BaseChosen):
        values["outcomes"] = tuple(Outcome.from_dict(each) for each in values.get("outcomes", ()))
    if cls is BaseChosen:
        values["probes"] = tuple(BaseProbe(**each) for each in values.get("probes", ()))
    if cls is Finished:
        compared = values.get("comparison")
        values["comparison"] = None if compared is None else LiveComparison.from_dict(compared)
        values["curve"] = tuple(CurvePoint(**each) for each in values.get("curve", ()))
    return cls(**values)
