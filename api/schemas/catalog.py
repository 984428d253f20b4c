"""Models, versions and aliases on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, Object, UnixSeconds
from api.schemas.report import Report
from models.backbones.registry import BackboneEntry
from models.records.versions import Alias, Model, ModelVersion
from models.services.promotion import Rule


class ModelObject(Object):
    """A base model (`owned_by` graft) or a customer's own."""

    object: Literal["model"] = "model"
    id: str = Field(description="The name to call it by.")
    created: UnixSeconds
    owned_by: str = Field(description="`graft`, or the customer's name.")
    kind: Literal["base", "fine-tuned"] = Field(description="A base model, or one of your own.")
    name: str = Field(description="The short name: your own models answer to it, too.")
    task: str | None = Field(None, description="What it learned; null for a base model.")
    base_model: str | None = Field(None, description="The base model that it extends.")
    version: int | None = Field(None, description="The version that answers now; null: none yet.")
    promote: str | None = Field(None, description="What of its jobs goes live by itself: auto, always or never.")
    modality: str | None = Field(None, description="What a base model reads: text, image or audio.")
    licence: str | None = Field(None, description="The licence of a base model's weights.")
    parameters: int | None = Field(None, description="Number of a base model's weights.")
    width: int | None = Field(None, description="Length of a base model's vectors.")
    max_tokens: int | None = Field(None, description="How many tokens of a text a base model reads at a time.")
    writes: bool | None = Field(None, description="Whether a base model writes: chats ask it by its own name.")
    retired: bool | None = Field(
        None, description="Whether a base model takes no new jobs; its models go on answering."
    )


class VersionObject(Object):
    """An immutable version of a model."""

    object: Literal["model.version"] = "model.version"
    id: str = Field(description="`ftckpt-…`: the checkpoint of its job.")
    model: str = Field(description="The pinned name.")
    version: int = Field(description="Its number, from 1.")
    created_at: UnixSeconds
    job: str = Field(description="The job that made it.")
    candidate: str = Field(description="The strategy that made it: head, lora, partial, ….")
    metrics: dict[str, Any] = Field(description="The headline figures: score, score_low, score_high, baseline, ….")
    report: Report = Field(description="How it was measured and what it scored.")
    bytes: int = Field(description="Size of what is stored of it.")
    live: bool = Field(description="Whether it answers when no version is named.")


class AliasObject(Object):
    """A name for a version. The one that is called `live` answers when no version is named."""

    object: Literal["model.alias"] = "model.alias"
    id: str = Field(description="The alias.")
    model: str = Field(description="The model's full name.")
    version: int = Field(description="The version that it points at.")
    previous: int | None = Field(description="Where it pointed before: what a roll-back returns to.")
    updated_at: UnixSeconds


class ChangeModel(Body):
    """What of a model can be changed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"promote": "auto"}]})

    promote: Rule = Field(
        description="Which versions of later jobs go live by themselves, unless a job sets its own rule."
    )


class SetAlias(Body):
    """Move an alias: promote a version, or roll back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 1}, {"version": "previous"}]})

    version: int | Literal["previous"] = Field(description="A version's number, or `previous` to roll back.")


def base_model_object(entry: BackboneEntry) -> ModelObject:
    """Return a registry entry in its wire form."""
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
        max_tokens=entry.max_tokens if entry.modality == "text" else None,
        writes=entry.kind == "decoder",
        retired=entry.retired,
    )


def model_object(model: Model, customer_name: str, version: int | None) -> ModelObject:
    """Return a row in its wire form."""
    return ModelObject(
        id=model.full_name,
        created=int(model.created_at),
        owned_by=customer_name,
        kind="fine-tuned",
        name=model.name,
        task=model.task,
        base_model=model.base_model,
        version=version,
        promote=model.promote,
    )


def version_object(version: ModelVersion, full_name: str, live: int | None) -> VersionObject:
    """Return a row in its wire form."""
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
    """Return a row in its wire form."""
    return AliasObject(
        id=alias.name,
        model=full_name,
        version=alias.number,
        previous=alias.previous,
        updated_at=int(alias.updated_at),
    )
