"""Bases that could take a job which leaves the choice to us (`auto`), and what is said of a choice that is none."""

from __future__ import annotations

from typing import Any

from models.backbones import registry
from models.backbones.errors import NoBaseModel
from models.backbones.registry import AUTO, BackboneEntry, HubSource, Kind
from models.datasets import tasks
from models.errors import InvalidRequest
from models.learning.contract import strategies
from models.learning.contract.base_choice import ONLY_BASE
from models.records.jobs import Job
from models.services.hyperparameters import check_hyperparameters, check_strategy
from models.settings import Settings

OPEN: dict[str, Any] = {"asked": AUTO}  # a choice that is still to be made
_DEFAULT = "Bases are probed for tasks that are learned by a head on features; others take the default."
_SETTLED = "The model has versions on it, or a job that makes one."
_KINDS: dict[str, tuple[Kind, ...]] = {"generation": ("decoder",), "detection": ("encoder", "detector")}


def kinds_of(task: str) -> tuple[Kind, ...]:
    """Return the kinds of bases that a task is learned on; the first is that of a job that names no base."""
    return _KINDS.get(tasks.find(task).learner, ("encoder",))


def list_candidates(
    settings: Settings,
    task: str,
    strategy: str | None,
    hyperparameters: dict[str, Any] | None,
    *,
    downloaded: bool = False,
) -> list[BackboneEntry]:
    """Return the bases that could take a job, the cheapest first; of those of a hub all, or those `downloaded` here.

    The machine that takes a job is not the one that trains it: what a worker has of the hub, only the worker knows.
    Cheap by the number of weights, not by the clock: equal jobs choose alike. Raises NoBaseModel, and what keeps the
    last one from it, such as NoLinearLayers.
    """
    asked = tasks.find(task)
    if asked.learner != "encoder":
        return [registry.default_for(settings, asked.modality, kinds_of(task)[0])]
    refused: InvalidRequest | None = None
    found = []
    for entry in registry.entries(settings).values():
        reads = (entry.modality, entry.kind) == (asked.modality, "encoder")
        elsewhere = isinstance(entry.source, HubSource) and not downloaded
        if not reads or entry.retired or not (elsewhere or registry.is_installed(entry)):
            continue
        try:
            strategies.check(check_strategy(strategy), task, entry, linear=entry.linear)
            check_hyperparameters(hyperparameters, entry)
        except InvalidRequest as error:
            refused = error
        else:
            found.append(entry)
    if not found:
        raise refused or NoBaseModel(modality=asked.modality)
    return sorted(found, key=lambda entry: (entry.parameters == 0, entry.parameters))


def names_of_candidates(settings: Settings, job: Job) -> tuple[str, ...]:
    """Return the names of the bases here among which a job's run chooses; () for one whose base is known."""
    if job.base_model != AUTO:
        return ()
    found = list_candidates(settings, job.task, job.strategy, job.hyperparameters, downloaded=True)
    return tuple(entry.name for entry in found)


def describe(task: str, base: str, candidate: str) -> dict[str, Any]:
    """Return what a new job says of its choice; `candidate` is the only base that could take it, else `auto`."""
    if base == AUTO:
        return OPEN
    if base != candidate:
        return describe_settled(base)
    return {**OPEN, "chosen": base, "reason": ONLY_BASE if tasks.find(task).learner == "encoder" else _DEFAULT}


def describe_settled(base: str) -> dict[str, Any]:
    """Return the choice that a model's earlier jobs have made."""
    return {**OPEN, "chosen": base, "reason": _SETTLED}
