"""A customer's request for a job: as it came, and once its own values were checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from models.backbones.registry import AUTO, BackboneEntry


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A customer's request for a job. None: the default."""

    training_file: str
    validation_file: str | None = None
    unlabeled_file: str | None = None
    model: str | None = None  # the base; `auto`: the one that a probe of them says is best
    suffix: str | None = None
    task: str | None = None
    strategy: str | None = None
    seed: int | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    promote: str | None = None  # the model's
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose own values are sound; its files and its model's name have yet to be looked up."""

    request: JobRequest
    bases: tuple[BackboneEntry, ...]  # several: the job's run chooses
    reserved: frozenset[str]  # names of base models
    strategy: str
    seed: int
    hyperparameters: dict[str, Any]
    metadata: dict[str, str]

    @property
    def base(self) -> BackboneEntry:
        """The base; where that is left open, the cheapest that may be chosen."""
        return self.bases[0]

    @property
    def base_name(self) -> str:
        """The base's name, `auto` where that is left open."""
        return self.base.name if len(self.bases) == 1 else AUTO
