"""Models, versions and aliases on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, Object, UnixSeconds
from models.backbones.registry import BackboneEntry
from models.records.versions import Alias, Model, ModelVersion


class ModelObject(Object):
    """A base model (`owned_by` graft) or a customer's own."""

    object: Literal["model"] = "model"
    id: str = Field(description="The name to call it by.")
    created: UnixSeconds
    owned_by: str
    kind: Literal["base", "fine-tuned"]
    name: str
    task: str | None = None
    base_model: str | None = None
    version: int | None = Field(None, description="The version that answers now; null: none yet.")
    modality: str | None = None
    licence: str | None = None
    parameters: int | None = None
    width: int | None = None


class VersionObject(Object):
    """An immutable version of a model."""

    object: Literal["model.version"] = "model.version"
    id: str
    model: str = Field(description="The pinned name.")
    version: int
    created_at: UnixSeconds
    job: str
    candidate: str
    metrics: dict[str, Any]
    report: dict[str, Any]
    bytes: int
    live: bool


class AliasObject(Object):
    """A name for a version. The one that is called `live` answers when no version is named."""

    object: Literal["model.alias"] = "model.alias"
    id: str = Field(description="The alias.")
    model: str
    version: int
    previous: int | None = Field(description="Where it pointed before: what a roll-back returns to.")
    updated_at: UnixSeconds


class SetAlias(Body):
    """Move an alias: promote a version, or roll back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 1}, {"version": "previous"}]})

    version: int | Literal["previous"] = Field(description="A version's number, or `previous` to roll back.")


def base_model_object(entry: BackboneEntry) -> ModelObject:
    """A registry entry as the wire has it."""
    return ModelObject(
        id=entry.name,
        created=0,
        owned_by="graft",
        kind="base",
        name=entry.name,
        modality=entry.modality,
        licence=entry.licence,
        parameters=entry.parameters,
        width=entry.width,
    )


def model_object(model: Model, customer_name: str, version: int | None) -> ModelObject:
    """A row as the wire has it."""
    return ModelObject(
        id=model.full_name,
        created=int(model.created_at),
        owned_by=customer_name,
        kind="fine-tuned",
        name=model.name,
        task=model.task,
        base_model=model.base_model,
        version=version,
    )


def version_object(version: ModelVersion, full_name: str, live: int | None) -> VersionObject:
    """A row as the wire has it."""
    return VersionObject(
        id=version.id,
        model=f"{full_name}@{version.number}",
        version=version.number,
        created_at=int(version.created_at),
        job=version.job_id,
        candidate=version.candidate,
        metrics=version.metrics,
        report=version.report,
        bytes=version.bytes,
        live=version.number == live,
    )


def alias_object(alias: Alias, full_name: str) -> AliasObject:
    """A row as the wire has it."""
    return AliasObject(
        id=alias.name,
        model=full_name,
        version=alias.number,
        previous=alias.previous,
        updated_at=int(alias.updated_at),
    )
