"""The audit log on the wire. For the operator."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.schemas.base import Object
from models.records.audit import AuditEvent


class AuditEventObject(Object):
    """One action: who did what to which object, from where."""

    object: Literal["audit.event"] = "audit.event"
    id: str = Field(description="`audit_…`.")
    created_at: float = Field(description="Unix time in seconds.")
    actor: str = Field(description="`operator`, a key's id, or `system` for what Graft does by itself.")
    address: str = Field(description="The client's address.")
    request_id: str = Field(description="The request's `x-request-id`.")
    customer_id: str = Field(description="Whose object it is; the customer may be deleted since.")
    action: str = Field(description="What was done: `key.revoked`, ….")
    target: str = Field(description="The object's id; for versions and aliases `mod_…@3`, `mod_…@live`.")
    before: dict[str, Any] | None = Field(description="What it was, where that is small.")
    after: dict[str, Any] | None = Field(description="What it became, where that is small.")


def audit_event_object(event: AuditEvent) -> AuditEventObject:
    """Return a row in its wire form."""
    names = set(AuditEventObject.model_fields) - {"object"}
    return AuditEventObject(**{name: getattr(event, name) for name in names})
