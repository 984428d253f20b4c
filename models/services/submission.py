"""Requests for jobs, checked and completed before they are written: base, files, task, name, hyperparameters, seed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from sqlalchemy.orm import Session

from models.backbones import registry
from models.backbones.registry import BackboneEntry, Kind
from models.datasets import tasks
from models.datasets.rare_labels import RareLabels
from models.datasets.tasks.task import Modality
from models.errors import InvalidRequest
from models.identifiers import full_model_name, new_id
from models.learning.contract import effects
from models.learning.contract.request import Hyperparameters
from models.records import files, jobs, versions
from models.records.customers import Customer
from models.records.files import File
from models.records.jobs import Job
from models.records.versions import Model
from models.services import promotion, quotas
from models.services.errors import ModelMismatch, NameTaken, UnknownLabels, UnusableFile
from models.services.files import LONG_TEXT_CODES, warn_of_long_texts
from models.services.hyperparameters import check_hyperparameters, check_seed, check_strategy
from models.services.metadata import check_metadata, check_name
from models.services.resources import Resources
from models.settings import Settings

_NAME_CHARS = 64
_SHOWN = 5
# Tasks in which rows without their rare labels may lack a second one.
_DROPS = frozenset({"text-classification", "image-classification", "audio-classification"})


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A customer's request for a job. None: the default."""

    training_file: str
    validation_file: str | None = None
    model: str | None = None  # the base
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
    base: BackboneEntry
    reserved: frozenset[str]  # names of base models
    strategy: str
    seed: int
    hyperparameters: dict[str, Any]
    metadata: dict[str, str]


def check(
    settings: Settings, request: JobRequest, *, modality: Modality | None, kind: Kind = "encoder"
) -> CheckedRequest:
    """Judge what needs no database; `modality` is what the base has to read, None if the request names the base.

    Raises UnknownBaseModel, NoBaseModel, BaseModelUnreachable, UnknownStrategy, InvalidSeed, …
    """
    base = registry.default_for(settings, modality, kind) if modality else registry.find(settings, request.model or "")
    registry.check(base)
    known = frozenset(registry.entries(settings))
    if request.suffix is not None:
        check_name(request.suffix, "model", param="suffix")
        if request.suffix in known:
            raise NameTaken(kind="base model", name=request.suffix, param="suffix")
    if request.promote is not None:
        promotion.check(request.promote)
    return CheckedRequest(
        request=request,
        base=base,
        reserved=known,
        strategy=check_strategy(request.strategy, base),
        seed=check_seed(request.seed),
        hyperparameters=check_hyperparameters(request.hyperparameters, base),
        metadata=check_metadata(request.metadata),
    )


def write(session: Session, resources: Resources, customer: Customer, checked: CheckedRequest) -> Job:
    """Look up the files, adopt or make the model, write the queued job; the customer's lock is held.

    Raises NotFound for a file, UnusableFile, UnknownLabels, ModelMismatch.
    """
    request = checked.request
    training = files.require(session, customer.id, request.training_file, param="training_file")
    task = _task_of(training, request.task, checked.base)
    _check_training(training, Hyperparameters(**checked.hyperparameters).rare())
    validation = None
    if request.validation_file is not None:
        validation = files.require(session, customer.id, request.validation_file, param="validation_file")
        _compare(training, validation)
    name = request.suffix or suggest_name(training.filename, checked.reserved)
    now = resources.database.now(session)
    model = _adopt(session, resources.settings, customer, name, base=checked.base.name, task=task, now=now)
    job = Job(
        id=new_id("ftjob-"),
        customer_id=customer.id,
        model_id=model.id,
        training_file_id=training.id,
        validation_file_id=validation.id if validation else None,
        base_model=checked.base.name,
        suffix=name,
        task=task,
        strategy=checked.strategy,
        seed=checked.seed,
        hyperparameters=checked.hyperparameters,
        promote=request.promote or model.promote,
        meta=checked.metadata,
        warnings=[
            *_warnings(training, validation, checked.base),
            *effects.warnings(checked.strategy, checked.hyperparameters),
        ],
        status="queued",  # its files were validated when they were uploaded
        created_at=now,
        queued_at=now,
    )
    session.add(job)
    session.flush()
    return job


def _warnings(training: File, validation: File | None, base: BackboneEntry) -> list[dict[str, Any]]:
    """Return the warnings of both files, each with its file's id; of long texts, by the job's own base."""
    found = []
    for file in [training] if validation is None else [training, validation]:
        warnings = [warning for warning in file.profile.get("warnings") or [] if warning["code"] not in LONG_TEXT_CODES]
        long = warn_of_long_texts(base, file.profile.get("words") or {}, file.filename)
        found += [{"file": file.id, **warning} for warning in [*warnings, *long]]
    return found


def suggest_name(filename: str, reserved: frozenset[str]) -> str:
    """Return a model name from a file name: `My Tickets (2024).csv` → `my-tickets-2024`."""
    stem = PurePath(filename).stem.lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:_NAME_CHARS].strip("-") or "model"
    return f"{name[: _NAME_CHARS - 6]}-model" if name in reserved else name


def _task_of(training: File, asked: str | None, base: BackboneEntry) -> str:
    task = str(training.profile["task"])
    if asked is not None and asked != task:
        reason = f"The file '{training.id}' was validated for {task}. Upload it again with task='{asked[:80]}'."
        raise InvalidRequest(reason=reason, param="task")
    if kind_of(task) != base.kind:
        does = "writes" if base.kind == "decoder" else "reads, and does not write"
        needs = "writes" if kind_of(task) == "decoder" else "reads"
        reason = f"The base model '{base.name}' {does}; {task} needs one that {needs}."
        raise UnusableFile(reason=reason, param="model")
    modality = tasks.find(task).modality
    if modality != base.modality:
        raise UnusableFile(
            reason=f"The base model '{base.name}' reads {base.modality}; {task} needs one that reads {modality}.",
            param="model",
        )
    return task


def kind_of(task: str) -> Kind:
    """Return the kind of base that a task is learned on."""
    return "decoder" if tasks.find(task).learner == "generation" else "encoder"


def _check_training(training: File, rule: RareLabels) -> None:
    """Raise UnusableFile for a file that was checked as one to score on, or that has no two labels left."""
    if training.profile.get("role") == "validation":
        reason = f"The file '{training.id}' was uploaded as one to score on. Upload it with purpose 'fine-tune'."
        raise UnusableFile(reason=reason, param="training_file")
    labels = training.profile["labels"]
    if tasks.kind(training.profile["task"]) in _DROPS and len(rule.kept(labels)) < 2:
        rare = len(rule.among(labels))
        reason = (
            f"{rare} of the file's {len(labels)} labels have fewer than {rule.minimum} rows, and fewer "
            "than two labels are left to tell apart. Ask for a smaller min_rows_per_label, or add rows."
        )
        raise UnusableFile(reason=reason, param="training_file")


def _compare(training: File, validation: File) -> None:
    task = training.profile["task"]
    if validation.profile["task"] != task:
        raise UnusableFile(
            reason=f"The training file is for {task}, the validation file for {validation.profile['task']}.",
            param="validation_file",
        )
    with_pairs = ["text_pair" in file.profile["columns"] for file in (training, validation)]
    if with_pairs[0] != with_pairs[1]:
        raise UnusableFile(
            reason="One of the two files has a column text_pair, the other has none.", param="validation_file"
        )
    unknown = sorted(set(validation.profile["labels"]) - set(training.profile["labels"]))
    if unknown:
        shown = ", ".join(f"'{label}'" for label in unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
        raise UnknownLabels(count=len(unknown), labels=shown)


def _adopt(
    session: Session, settings: Settings, customer: Customer, name: str, *, base: str, task: str, now: float
) -> Model:
    model = versions.find_model(session, customer.id, name)
    if model is None:
        quotas.check(session, settings, customer, {"models": 1})
        model = Model(
            id=new_id("mod_"),
            customer_id=customer.id,
            name=name,
            base_model=base,
            full_name=full_model_name(base, customer.name, name),
            task=task,
            created_at=now,
        )
        session.add(model)
        session.flush()
        return model
    settled = (
        versions.has_versions(session, model.id)
        or jobs.find_unfinished_of_model(session, customer.id, model.id) is not None
    )
    for what, present, asked in (("the base model", model.base_model, base), ("the task", model.task, task)):
        if settled and present != asked:
            raise ModelMismatch(name=name, what=what, present=present, asked=asked, param="suffix")
    # Nothing came of it yet: it may become what this job makes of it.
    model.base_model, model.task = base, task
    model.full_name = full_model_name(base, customer.name, name)
    return model
