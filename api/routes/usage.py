"""/v1/usage: what was used; /v1/limits: what may be."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query

from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.context import ControlPlane
from api.documentation import answers
from api.errors import InvalidBody
from api.schemas.base import Listing
from api.schemas.customers import QuotaObject, quota_object
from api.schemas.usage import UsageBucket, usage_bucket
from models.services import quotas, usage

router = APIRouter(tags=["usage"], route_class=CustomerRoute)

_DEFAULT_SPAN_S = 7 * 86400
_LONGEST_SPAN_S = 366 * 86400

Instant = Annotated[float | None, Query(description="Unix seconds.", ge=0, le=1e11)]


@router.get("/v1/usage", responses=answers(400, 401, 403, 429), dependencies=[needs("train", "manage")])
def summarise(
    caller: Caller, resources: ControlPlane, start_time: Instant = None, end_time: Instant = None
) -> Listing[UsageBucket]:
    """Sum up your usage by hour, kind and model; the last seven days if no times are given."""
    end = time.time() if end_time is None else end_time
    start = end - _DEFAULT_SPAN_S if start_time is None else start_time
    if not 0 <= end - start <= _LONGEST_SPAN_S:
        raise InvalidBody(reason="start_time must lie before end_time, and at most 366 days.", param="start_time")
    return Listing.of([usage_bucket(row) for row in usage.summarise(resources, caller.customer_id, start, end)])


@router.get("/v1/limits", responses=answers(401, 403, 429), dependencies=[needs("train", "manage")])
def limits(caller: Caller, resources: ControlPlane) -> Listing[QuotaObject]:
    """List your quotas, each with its limit and what is used of it."""
    return Listing.of([quota_object(state) for state in quotas.measure(resources, caller.customer_id)])
