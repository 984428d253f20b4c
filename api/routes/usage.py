"""/v1/usage: what was used; /v1/limits: what may be."""

from __future__ import annotations

from fastapi import APIRouter

from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.context import ControlPlane
from api.documentation import answers
from api.schemas.base import Listing
from api.schemas.customers import QuotaObject, quota_object
from api.schemas.usage import UsageBucket
from api.usage_query import AskedUsage
from models.services import quotas

router = APIRouter(tags=["usage"], route_class=CustomerRoute)


@router.get("/v1/usage", responses=answers(400, 401, 403, 404, 429), dependencies=[needs("train", "manage")])
def summarise(caller: Caller, resources: ControlPlane, query: AskedUsage) -> Listing[UsageBucket]:
    """Sum up your usage by hour, kind and model; the last seven days if no times are given."""
    return query.answer(resources, caller.customer_id, default_width="1h")


@router.get("/v1/limits", responses=answers(401, 403, 429), dependencies=[needs("train", "manage")])
def limits(caller: Caller, resources: ControlPlane) -> Listing[QuotaObject]:
    """List your quotas, each with its limit and what is used of it."""
    return Listing.of([quota_object(state) for state in quotas.measure(resources, caller.customer_id)])
