"""Requests for jobs, checked and completed before they are written: base, files, task, name, hyperparameters, seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from sqlalchemy.orm import Session

from models.backbones import registry
from models.backbones.registry import AUTO, BackboneEntry, Kind
from models.datasets import tasks
from models.datasets.rare_labels import RareLabels
from models.errors import InvalidRequest
from models.identifiers import full_model_name, new_id
from models.learning.contract import effects, strategies
from models.learning.contract.request import Hyperparameters
from models.records import files, jobs, versions
from models.records.customers import Customer
from models.records.files import File
from models.records.jobs import Job
from models.records.versions import Model
from models.services import base_candidates, promotion, quotas, unlabeled_files
from models.services.errors import ModelMismatch, NameTaken, StrategyNotServed, UnknownLabels, UnusableFile
from models.services.files import LONG_TEXT_CODES, warn_of_long_texts
from models.services.hyperparameters import check_hyperparameters, check_seed, check_strategy
from models.services.job_request import CheckedRequest, JobRequest
from models.services.metadata import check_metadata, check_name
from models.services.resources import Resources
from models.settings import Settings

_NAME_CHARS = 64
_OWN_BLOCKS = frozenset({"partial", "full"})  # strategies whose versions bring blocks
_SHOWN = 5
_DOES: dict[Kind, str] = {
    "encoder": "reads, and does not write",
    "decoder": "writes",
    "detector": "finds boxes in pictures, and nothing else",
}
# How many labels must be left without the rare ones: where rows may have none, one can be told apart from that.
_LEAST_LABELS = {
    "text-classification": 2,
    "image-classification": 2,
    "audio-classification": 2,
    "multi-label-classification": 1,
    "object-detection": 1,
}


def check(settings: Settings, request: JobRequest, *, task: str | None) -> CheckedRequest:
    """Judge what needs no database; `task` is the training file's, None if the request names the base.

    Raises UnknownBaseModel, NoBaseModel, BaseModelUnreachable, UnknownStrategy, InvalidSeed, …
    """
    bases = _bases(settings, request, task)
    base = bases[0]
    registry.check_open(settings, base)
    registry.check(base)
    if settings.generation_upstream and base.name == settings.generation_base_model and request.strategy in _OWN_BLOCKS:
        raise StrategyNotServed(name=request.strategy)
    known = frozenset(registry.entries(settings))
    if request.suffix is not None:
        check_name(request.suffix, "model", param="suffix")
        if request.suffix in known:
            raise NameTaken(kind="base model", name=request.suffix, param="suffix")
    if request.promote is not None:
        promotion.check(request.promote)
    return CheckedRequest(
        request=request,
        bases=bases,
        reserved=known,
        strategy=check_strategy(request.strategy),
        seed=check_seed(request.seed),
        hyperparameters=check_hyperparameters(request.hyperparameters, base),
        metadata=check_metadata(request.metadata),
    )


def write(session: Session, resources: Resources, customer: Customer, checked: CheckedRequest) -> Job:
    """Look up the files, adopt or make the model, write the queued job; the customer's lock is held.

    Raises NotFound for a file, UnusableFile, UnsupportedStrategy, UnsupportedMethod, UnknownLabels,
    ModelMismatch.
    """
    request = checked.request
    training = files.require(session, customer.id, request.training_file, param="training_file")
    require_data(training, param="training_file")
    check_role(training)
    task = _task_of(training, request.task, checked.base)
    strategies.check(checked.strategy, task, checked.base, linear=checked.base.linear)
    strategies.check_method(checked.hyperparameters["method"], task)
    _check_training(training, Hyperparameters(**checked.hyperparameters).rare())
    validation = None
    if request.validation_file is not None:
        validation = files.require(session, customer.id, request.validation_file, param="validation_file")
        require_data(validation, param="validation_file")
        _compare(training, validation)
    unlabeled = None
    if request.unlabeled_file is not None:
        unlabeled = files.require(session, customer.id, request.unlabeled_file, param="unlabeled_file")
        unlabeled_files.check(training, unlabeled, checked.strategy)
    name = request.suffix or suggest_name(training.filename, checked.reserved)
    now = resources.database.now(session)
    model = _adopt(session, resources.settings, customer, name, checked, task=task, now=now)
    base = model.base_model
    known = None if base == AUTO else registry.find(resources.settings, base)
    job = Job(
        id=new_id("ftjob-"),
        customer_id=customer.id,
        model_id=model.id,
        training_file_id=training.id,
        validation_file_id=validation.id if validation else None,
        unlabeled_file_id=unlabeled.id if unlabeled else None,
        base_model=base,
        base_choice=base_candidates.describe(task, base, checked.base_name) if request.model == AUTO else None,
        suffix=name,
        task=task,
        strategy=checked.strategy,
        seed=checked.seed,
        hyperparameters=checked.hyperparameters,
        promote=request.promote or model.promote,
        meta=checked.metadata,
        warnings=[
            *_warnings([file for file in (training, validation, unlabeled) if file is not None], known),
            *effects.warnings(checked.strategy, checked.hyperparameters, task),
        ],
        status="queued",  # its files were validated when they were uploaded
        created_at=now,
        queued_at=now,
    )
    session.add(job)
    session.flush()
    return job


def _bases(settings: Settings, request: JobRequest, task: str | None) -> tuple[BackboneEntry, ...]:
    if task is None:
        return (registry.find(settings, request.model or ""),)
    if request.model == AUTO:
        return tuple(base_candidates.list_candidates(settings, task, request.strategy, request.hyperparameters))
    return (registry.default_for(settings, tasks.find(task).modality, base_candidates.kinds_of(task)[0]),)


def _warnings(of_job: Sequence[File], base: BackboneEntry | None) -> list[dict[str, Any]]:
    """Return the warnings of a job's files, each with its file's id; of long texts, by its base if that is known."""
    found = []
    for file in of_job:
        warnings = [warning for warning in file.profile.get("warnings") or [] if warning["code"] not in LONG_TEXT_CODES]
        long = [] if base is None else warn_of_long_texts(base, file.profile, file.filename)
        found += [{"file": file.id, **warning} for warning in [*warnings, *long]]
    return found


def suggest_name(filename: str, reserved: frozenset[str]) -> str:
    """Return a model name from a file name: `My Tickets (2024).csv` → `my-tickets-2024`."""
    stem = PurePath(filename).stem.lower()
    name = re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:_NAME_CHARS].strip("-") or "model"
    return f"{name[: _NAME_CHARS - 6]}-model" if name in reserved else name


def require_data(file: File, *, param: str) -> None:
    """Raise UnusableFile for a file that a job left."""
    if file.purpose == files.RESULTS:
        reason = f"The file '{file.id}' is the loss curve of a job. Name a file that you have uploaded."
        raise UnusableFile(reason=reason, param=param)


def _task_of(training: File, asked: str | None, base: BackboneEntry) -> str:
    task = str(training.profile["task"])
    if asked is not None and asked != task:
        reason = f"The file '{training.id}' was validated for {task}. Upload it again with task='{asked[:80]}'."
        raise InvalidRequest(reason=reason, param="task")
    if base.kind not in (kinds := base_candidates.kinds_of(task)):
        does, needs = _DOES[base.kind], "writes" if "decoder" in kinds else "reads"
        reason = f"The base model '{base.name}' {does}; {task} needs one that {needs}."
        raise UnusableFile(reason=reason, param="model")
    modality = tasks.find(task).modality
    if modality != base.modality:
        raise UnusableFile(
            reason=f"The base model '{base.name}' reads {base.modality}; {task} needs one that reads {modality}.",
            param="model",
        )
    return task


def check_role(training: File) -> None:
    """Raise UnusableFile for a file that was checked as one to score on, or as one without labels."""
    as_what = {"validation": "one to score on", "unlabeled": "rows without labels"}.get(
        training.profile.get("role", "")
    )
    if as_what is not None:
        reason = f"The file '{training.id}' was uploaded as {as_what}. Upload it with purpose 'fine-tune'."
        raise UnusableFile(reason=reason, param="training_file")


def _check_training(training: File, rule: RareLabels) -> None:
    """Raise UnusableFile for a file that has too few labels left to learn to tell them apart."""
    labels = training.profile["labels"]
    least = _LEAST_LABELS.get(tasks.kind(training.profile["task"]), 0)
    if len(rule.kept(labels)) < least:
        rare = len(rule.among(labels))
        left = "fewer than two labels are left to tell apart" if least > 1 else "no label is left"
        reason = (
            f"{rare} of the file's {len(labels)} labels have fewer than {rule.minimum} rows, and {left}. "
            "Ask for a smaller min_rows_per_label, or add rows."
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
    session: Session,
    settings: Settings,
    customer: Customer,
    name: str,
    checked: CheckedRequest,
    *,
    task: str,
    now: float,
) -> Model:
    """Return the customer's model of this name, made if there is none, on the job's base. Raises ModelMismatch.

    A job that leaves its base open goes on with the one that the model has versions on.
    """
    base = checked.base_name
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
    if settled and checked.request.model == AUTO:
        base = model.base_model
        _check_settled(settings, base, checked, task)
    for what, present, asked in (("the base model", model.base_model, base), ("the task", model.task, task)):
        if settled and present != asked:
            raise ModelMismatch(name=name, what=what, present=present, asked=asked, param="suffix")
    # Nothing came of it yet: it may become what this job makes of it.
    model.base_model, model.task = base, task
    model.full_name = full_model_name(base, customer.name, name)
    return model


def _check_settled(settings: Settings, base: str, checked: CheckedRequest, task: str) -> None:
    """Check what was checked for the candidates for the base that the model has: it may be none of them."""
    if base == AUTO:
        return
    entry = registry.find(settings, base)
    registry.check_open(settings, entry)
    strategies.check(checked.strategy, task, entry, linear=entry.linear)
    check_hyperparameters(checked.request.hyperparameters, entry)
