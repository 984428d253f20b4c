"""/v1/audit: what was done, by whom and from where. It is read here; nothing changes it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.admission import OperatorRoute
from api.context import ControlPlane
from api.documentation import answers
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.schemas.audit import AuditEventObject, audit_event_object
from api.schemas.base import Listing
from models.records.audit import Action, AuditFilter
from models.services import audit

router = APIRouter(tags=["operator"], route_class=OperatorRoute, responses=answers(400, 401, 403, 404))


@router.get("/v1/audit")
def list_all(
    resources: ControlPlane,
    *,
    customer: Annotated[str | None, Query(description="Only of this customer's objects: `cus_…`.")] = None,
    action: Annotated[Action | None, Query(description="Only this action.")] = None,
    actor: Annotated[str | None, Query(description="Only by `operator`, `system`, or a key: `key_…`.")] = None,
    since: Annotated[float | None, Query(description="Unix seconds; at or after this.", ge=0, le=1e11)] = None,
    until: Annotated[float | None, Query(description="Unix seconds; before this.", ge=0, le=1e11)] = None,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Listing[AuditEventObject]:
    """List what was done, newest first: keys, customers, files, jobs, versions and aliases."""
    only = AuditFilter(customer_id=customer, actor=actor, action=action, since=since, until=until)
    return listing(audit.list_page(resources, only, after=after, limit=limit), audit_event_object)
