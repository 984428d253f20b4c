"""Customers and their keys on the wire. For the operator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from api.schemas.base import Body, Metadata, Object, UnixSeconds, check_display_name
from models.records.customers import Customer
from models.records.keys import ApiKey
from models.services.access.scopes import SCOPES, KeyScope
from models.services.accounts import AccountChange
from models.services.customers import DeletionReport
from models.services.quotas import NAMES, QuotaName, QuotaState


class CreateCustomer(Body):
    """A new tenant. Its name is part of its models' full names."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "acme", "metadata": {"plan": "pro"}}]})

    name: str = Field(description="1 to 64 lower-case letters, digits, '.', '_', '-'.", min_length=1, max_length=64)
    metadata: Metadata = Field(default_factory=dict, description="Up to 16 pairs of your own.")


Quota = Annotated[int | None, Field(ge=0, lt=2**53)]


class CustomerLimits(Body):
    """A customer's own limits. null: the operator's default, which `GET /v1/customers/{id}/limits` shows."""

    stored_bytes: Quota = Field(None, description="Bytes of files and versions.")
    files: Quota = Field(None, description="Files.")
    models: Quota = Field(None, description="Models.")
    keys: Quota = Field(None, description="Valid keys.")
    unfinished_jobs: Quota = Field(None, description="Jobs that wait, run or are paused.")
    jobs_per_day: Quota = Field(None, description="Jobs in 24 hours.")
    training_seconds_per_month: Quota = Field(None, description="Seconds of training in a calendar month (UTC).")


class UpdateCustomer(Body):
    """What to change of a customer; what is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"limits": {"files": 500}, "suspended": False}]})

    limits: CustomerLimits | None = Field(None, description="The limits that are named; null: the default again.")
    suspended: bool | None = Field(None, description="true: refuse its keys and pause its jobs; false: resume it.")
    metadata: Metadata | None = Field(None, description="Up to 16 pairs of your own, in the place of the present ones.")


class QuotaObject(Object):
    """A customer's quota, and what is used of it."""

    object: Literal["quota"] = "quota"
    name: QuotaName = Field(description="What is limited.")
    limit: int | None = Field(description="How much there may be; null: no limit.")
    used: int = Field(description="How much there is now, or was used in the time that the name says.")
    default: bool = Field(description="Whether the limit is the operator's for every customer.")


class CustomerObject(Object):
    """A tenant."""

    object: Literal["customer"] = "customer"
    id: str = Field(description="`cus_…`.")
    name: str = Field(description="Part of its models' full names.")
    metadata: dict[str, str] = Field(description="The operator's own pairs.")
    limits: CustomerLimits = Field(description="Its own limits; null: the operator's default.")
    suspended_at: int | None = Field(description="Unix time in seconds; null: it is not suspended.")
    created_at: UnixSeconds


class CustomerDeleted(Object):
    """The rows and objects that went with a deleted customer."""

    object: Literal["customer.deleted"] = "customer.deleted"
    id: str = Field(description="The customer that was deleted.")
    deleted: Literal[True] = Field(True, description="Always true.")
    removed: dict[str, int] = Field(description="Rows by table, and objects of the store.")
    complete: bool = Field(description="false: the store was away; its objects go with a later sweep.")


Scopes = Annotated[list[KeyScope], Field(min_length=1, max_length=len(SCOPES))]


class IssueKey(Body):
    """A new key for a customer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "production", "scopes": ["predict"]}]})

    name: Annotated[str, AfterValidator(check_display_name)] = Field(
        "default", description="What the key is for.", max_length=64
    )
    expires_at: float | None = Field(None, description="Unix time in seconds, to come; null: never.", gt=0, lt=1e11)
    scopes: Scopes | None = Field(
        None,
        description="What the key may do: `predict` (ask models), `train` (upload data, start and follow jobs), "
        "`manage` (delete, promote, issue and revoke keys). null: all, or all that the issuing key may.",
    )


class RotateKey(Body):
    """A new key in the place of an old one."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"grace_seconds": 3600}]})

    grace_seconds: float = Field(0, description="How long the old key stays valid.", ge=0, le=30 * 86400)


class KeyObject(Object):
    """A key, without its secret."""

    object: Literal["api_key"] = "api_key"
    id: str = Field(description="`key_…`.")
    customer_id: str = Field(description="Whose key it is.")
    name: str = Field(description="What it is for.")
    prefix: str = Field(description="The first characters of the secret, to recognise it by.")
    scopes: list[str] = Field(description="What it may do.")
    created_at: UnixSeconds
    last_used_at: int | None = Field(description="Unix time in seconds; null: never.")
    expires_at: int | None = Field(description="Unix time in seconds; null: never.")
    revoked_at: int | None = Field(description="Unix time in seconds; null: it is not revoked.")


class IssuedKeyObject(KeyObject):
    """A key with its secret."""

    key: str | None = Field(description="The secret. Shown once: a replayed answer has null.")


def customer_object(customer: Customer) -> CustomerObject:
    """Return a row in its wire form."""
    return CustomerObject(
        id=customer.id,
        name=customer.name,
        metadata=customer.meta,
        limits=CustomerLimits(**customer.limits),
        suspended_at=_seconds(customer.suspended_at),
        created_at=int(customer.created_at),
    )


def account_change(body: UpdateCustomer) -> AccountChange:
    """Return what a body changes."""
    limits: dict[QuotaName, int | None] | None = None
    if body.limits is not None:
        limits = {name: getattr(body.limits, name) for name in NAMES if name in body.limits.model_fields_set}
    return AccountChange(limits=limits, suspended=body.suspended, metadata=body.metadata)


def quota_object(state: QuotaState) -> QuotaObject:
    """Return a quota in its wire form."""
    return QuotaObject(name=state.name, limit=state.limit, used=state.used, default=state.default)


def customer_deleted(customer_id: str, report: DeletionReport) -> CustomerDeleted:
    """Return a deletion in its wire form."""
    return CustomerDeleted(
        id=customer_id, removed={**report.removed, "objects": report.objects}, complete=report.complete
    )


def key_object(key: ApiKey) -> KeyObject:
    """Return a row in its wire form, without its secret."""
    return KeyObject(**_key_fields(key))


def issued_key_object(key: ApiKey, secret: str) -> IssuedKeyObject:
    """Return a row and its secret in their wire form."""
    return IssuedKeyObject(**_key_fields(key), key=secret)


def _key_fields(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "customer_id": key.customer_id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes,
        "created_at": int(key.created_at),
        "last_used_at": _seconds(key.last_used_at),
        "expires_at": _seconds(key.expires_at),
        "revoked_at": _seconds(key.revoked_at),
    }


def _seconds(time: float | None) -> int | None:
    return None if time is None else int(time)
