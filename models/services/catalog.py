"""Models, versions and aliases: for their customers, and resolved for the predictor."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from models.backbones import registry
from models.errors import NotFound
from models.identifiers import is_name
from models.records import audit, changes, customers, job_events, jobs, retired_models, versions
from models.records.pages import Page
from models.records.transitions import UNFINISHED
from models.records.versions import LIVE, Alias, Model, ModelVersion
from models.services import caches, promotion, references
from models.services.errors import (
    AliasIsLive,
    AliasMoved,
    BaseModelIsOperators,
    InvalidAlias,
    ModelInUse,
    ModelNotReady,
    NothingBefore,
    UntrainedBaseModel,
    VersionInUse,
    WritingBaseModel,
)
from models.services.resources import Resources
from models.storage.errors import StorageUnavailable
from models.storage.keys import model_prefix


@dataclass(frozen=True, slots=True)
class ResolvedVersion:
    """A version that can answer, with all that a predictor needs to load it."""

    customer_id: str
    model_id: str
    name: str
    full_name: str
    number: int
    artifact_prefix: str
    manifest_sha256: str
    base_model: str
    task: str


def list_models(resources: Resources, customer_id: str, *, after: str | None = None, limit: int = 20) -> Page[Model]:
    """Return the customer's models that have a version, newest first; the cursor is a model's id."""
    with resources.database.reading() as session:
        return versions.fetch_models(session, customer_id, after=after, limit=limit)


def get_model(resources: Resources, customer_id: str, name: str) -> Model:
    """Return a model by its name or full name; raises NotFound."""
    with resources.database.reading() as session:
        return _require(resources, session, customer_id, name)


def live_numbers(resources: Resources, models: Collection[Model]) -> dict[str, int]:
    """Return the version that answers, by model id; models without one are left out."""
    with resources.database.reading() as session:
        return versions.live_numbers(session, [model.id for model in models])


def set_promotion(resources: Resources, customer_id: str, name: str, rule: str) -> Model:
    """Say what of a model's later jobs goes live by itself. Raises NotFound, InvalidRequest."""
    promotion.check(rule)
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        model = _require(resources, session, customer_id, name)
        rules = {"promote": model.promote}, {"promote": rule}
        audit.record(session, resources.actor, "model.changed", customer_id, model.id, before=rules[0], after=rules[1])
        model.promote = rule
        session.flush()
    return model


def delete_model(resources: Resources, customer_id: str, name: str) -> Model:
    """Remove a model with its versions, aliases and objects. Its jobs and what they cost stay on record.

    A new model of its name goes on counting where this one ended, so that a pinned name never means other weights.
    Raises NotFound, and ModelInUse while a job is making a version of it.
    """
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        model = _require(resources, session, customer_id, name)
        job = jobs.find_unfinished_of_model(session, customer_id, model.id)
        if job is not None:
            raise ModelInUse(name=model.name, job=job.id, status=job.status)
        versions.lock_model(session, model.id)
        for manifest_sha256 in versions.manifests_of(session, model.id):
            caches.announce_version(session, customer_id, manifest_sha256)
        for table in (Alias, ModelVersion):
            session.execute(sql_delete(table).where(table.model_id == model.id))
        retired_models.retire(session, customer_id, model.name, model.last_number)
        session.delete(model)
        audit.record(session, resources.actor, "model.deleted", customer_id, model.id)
        changes.record(session, "model", customer_id, model.name)
    with contextlib.suppress(StorageUnavailable):  # what stays behind is an orphan for the sweeper
        resources.store.delete_prefix(model_prefix(customer_id, model.id))
    caches.empty(resources, customer_id)
    return model


def versions_page(
    resources: Resources, customer_id: str, name: str, *, after: str | None = None, limit: int = 20
) -> Page[ModelVersion]:
    """Return a model's versions, newest first; raises NotFound."""
    with resources.database.reading() as session:
        model = _require(resources, session, customer_id, name)
        return versions.fetch_versions(session, model.id, after=after, limit=limit)


def aliases(resources: Resources, customer_id: str, name: str) -> list[Alias]:
    """Return a model's aliases by name; raises NotFound."""
    with resources.database.reading() as session:
        model = _require(resources, session, customer_id, name)
        return versions.fetch_aliases(session, model.id)


def set_alias(resources: Resources, customer_id: str, name: str, alias: str, number: int) -> Alias:
    """Point an alias at a version; `live` promotes it.

    Raises NotFound for the model or the version, InvalidAlias.
    """
    if not is_name(alias) or alias.isdecimal():
        raise InvalidAlias(alias=alias[:80], param="alias")
    with resources.database.transaction() as session:
        model = _require(resources, session, customer_id, name)
        version = references.require_version(session, model, number)
        # Customer, job, model: the order in which a publishing worker takes them.
        customers.keep(session, {customer_id})
        jobs.lock(session, customer_id, version.job_id)
        if versions.lock_model(session, model.id) is None:
            raise NotFound(kind="model", id=name, param="model")
        references.require_version(session, model, number)  # it may have been deleted while the locks were waited for
        before = versions.find_alias(session, model.id, alias)
        moved = before is None or before.number != number
        pointer = versions.point(session, model.id, alias, number)
        if moved:
            audit.record(
                session,
                resources.actor,
                "alias.moved",
                customer_id,
                f"{model.id}@{alias}",
                before={"version": pointer.previous},
                after={"version": number},
            )
            changes.record(session, "model", customer_id, model.name)
            text = f"Version {number} ({version.candidate}) is now '{alias}'"
            text += f", which was version {pointer.previous}." if pointer.previous is not None else "."
            data = {"version": number, "alias": alias, "previous": pointer.previous}
            job_events.add(session, version.job_id, text, data=data)
    return pointer


def roll_back(resources: Resources, customer_id: str, name: str, alias: str) -> Alias:
    """Point an alias back at where it pointed before; once more goes back one step further.

    Raises NotFound, NothingBefore.
    """
    with resources.database.reading() as session:
        model = _require(resources, session, customer_id, name)
        seen = references.require_alias(session, model, alias)
        version = references.require_version(session, model, _step_before(seen, model))
    with resources.database.transaction() as session:
        customers.keep(session, {customer_id})
        jobs.lock(session, customer_id, version.job_id)
        if versions.lock_model(session, model.id) is None:
            raise NotFound(kind="model", id=name, param="model")
        pointer = references.require_alias(session, model, alias)
        if (pointer.number, pointer.history) != (seen.number, seen.history):
            raise AliasMoved(alias=alias, model=model.name, number=pointer.number)
        left = pointer.number
        versions.point_back(session, pointer)
        audit.record(
            session,
            resources.actor,
            "alias.rolled_back",
            customer_id,
            f"{model.id}@{alias}",
            before={"version": left},
            after={"version": version.number},
        )
        changes.record(session, "model", customer_id, model.name)
        text = f"Rolled back: version {version.number} ({version.candidate}) is '{alias}' again, after version {left}."
        job_events.add(session, version.job_id, text, data={"version": version.number, "alias": alias, "left": left})
    return pointer


def delete_version(resources: Resources, customer_id: str, name: str, number: int) -> ModelVersion:
    """Remove a version that no alias points at, with its objects; its number is not used again.

    Raises NotFound, VersionInUse.
    """
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        model = _require(resources, session, customer_id, name)
        version = references.require_version(session, model, number)
        job = jobs.lock(session, customer_id, version.job_id)
        if job.status in UNFINISHED:
            reason = f"its job '{job.id}' is {job.status}. Cancel it or wait for its end."
            raise VersionInUse(number=number, model=model.name, reason=reason)
        versions.lock_model(session, model.id)
        for alias in versions.fetch_aliases(session, model.id):
            if alias.number == number:
                advice = "Promote another version first." if alias.name == LIVE else "Move or delete the alias first."
                reason = f"'{alias.name}' points at it. {advice}"
                raise VersionInUse(number=number, model=model.name, reason=reason)
        versions.forget_version(session, version)
        caches.announce_version(session, customer_id, version.manifest_sha256)
        audit.record(session, resources.actor, "version.deleted", customer_id, f"{model.id}@{number}")
        changes.record(session, "model", customer_id, model.name)
    with contextlib.suppress(StorageUnavailable):  # what stays behind is an orphan for the sweeper
        resources.store.delete_prefix(version.artifact_prefix)
    caches.empty(resources, customer_id)
    return version


def delete_alias(resources: Resources, customer_id: str, name: str, alias: str) -> Alias:
    """Remove an alias other than `live`; versions stay. Raises NotFound, AliasIsLive."""
    with resources.database.transaction() as session:
        customers.lock(session, customer_id)
        model = _require(resources, session, customer_id, name)
        versions.lock_model(session, model.id)
        pointer = references.require_alias(session, model, alias)
        if alias == LIVE:
            raise AliasIsLive(model=model.name)
        session.delete(pointer)
        before = {"version": pointer.number}
        audit.record(session, resources.actor, "alias.deleted", customer_id, f"{model.id}@{alias}", before=before)
        changes.record(session, "model", customer_id, model.name)
    return pointer


def resolve(resources: Resources, customer_id: str, model_ref: str) -> ResolvedVersion:
    """Return the version that `name`, `ft:…`, `name@3` or `name@alias` means.

    Raises NotFound, and ModelNotReady for a model that has no version yet.
    """
    name, _, selector = model_ref.partition("@")
    with resources.database.reading() as session:
        model = versions.find_model(session, customer_id, name)
        if model is None:
            if (base := registry.entries(resources.settings).get(name)) is not None:
                if base.kind == "decoder":
                    raise WritingBaseModel(id=name)
                raise UntrainedBaseModel(id=name, own=references.own_models(session, customer_id))
            raise NotFound(kind="model", id=model_ref, param="model")
        version = references.select(session, model, selector or LIVE)
        if version is None:
            published = versions.has_versions(session, model.id)
            if not selector or not published:
                hint = (
                    references.none_live_hint(model)
                    if published
                    else references.no_version_hint(session, customer_id, model)
                )
                raise ModelNotReady(model=model.name, hint=hint, param="model")
            raise references.not_selected(session, model, selector)
    return ResolvedVersion(
        customer_id=customer_id,
        model_id=model.id,
        name=model.name,
        full_name=model.full_name,
        number=version.number,
        artifact_prefix=version.artifact_prefix,
        manifest_sha256=version.manifest_sha256,
        base_model=model.base_model,
        task=model.task,
    )


def _step_before(alias: Alias, model: Model) -> int:
    if alias.previous is None:
        raise NothingBefore(alias=alias.name, model=model.name, number=alias.number)
    return alias.previous


def _require(resources: Resources, session: Session, customer_id: str, name: str) -> Model:
    """Return a model of the customer's; raises NotFound, and BaseModelIsOperators for what it cannot change."""
    model = versions.find_model(session, customer_id, name)
    if model is None and name in registry.entries(resources.settings):
        raise BaseModelIsOperators(id=name)
    return model or versions.require_model(session, customer_id, name)
