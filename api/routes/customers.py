"""/v1/customers: the operator's tenants."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api.admission import OperatorRoute
from api.context import ControlPlane
from api.documentation import answers
from api.idempotency import OnceOnly
from api.logging import note_target
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.schemas.base import Listing
from api.schemas.customers import (
    CreateCustomer,
    CustomerDeleted,
    CustomerObject,
    QuotaObject,
    UpdateCustomer,
    account_change,
    customer_deleted,
    customer_object,
    quota_object,
)
from api.schemas.usage import UsageBucket
from api.usage_query import AskedUsage
from models.services import accounts, customers, quotas

router = APIRouter(
    prefix="/v1/customers", tags=["operator"], route_class=OperatorRoute, responses=answers(401, 403, 404)
)

CustomerId = Annotated[str, Path(description="The customer's id: `cus_…`.")]


@router.post("", response_model=CustomerObject, responses=answers(400, 409))
def create(request: Request, body: CreateCustomer, resources: ControlPlane, once: OnceOnly) -> Response:
    """Create a customer."""

    def new() -> CustomerObject:
        customer = customers.create(resources, name=body.name, metadata=body.metadata)
        note_target(request, customer_id=customer.id)
        return customer_object(customer)

    return once.answer(body.model_dump(), new)


@router.get("")
def list_all(resources: ControlPlane, after: After = None, limit: Limit = DEFAULT_LIMIT) -> Listing[CustomerObject]:
    """List all customers, newest first."""
    return listing(customers.list_page(resources, after=after, limit=limit), customer_object)


@router.get("/{customer_id}")
def retrieve(customer_id: CustomerId, resources: ControlPlane) -> CustomerObject:
    """Retrieve a customer."""
    return customer_object(customers.get(resources, customer_id))


@router.patch("/{customer_id}", responses=answers(400))
def update(customer_id: CustomerId, body: UpdateCustomer, resources: ControlPlane) -> CustomerObject:
    """Change a customer's limits or metadata, suspend it, or resume it.

    Suspended: its keys answer 403 `customer_suspended` in every process within seconds, its jobs are paused.
    """
    return customer_object(accounts.update(resources, customer_id, account_change(body)))


@router.get("/{customer_id}/limits")
def limits(customer_id: CustomerId, resources: ControlPlane) -> Listing[QuotaObject]:
    """List a customer's quotas, each with its limit and what is used of it."""
    return Listing.of([quota_object(state) for state in quotas.measure(resources, customer_id)])


@router.get("/{customer_id}/usage", responses=answers(400))
def usage(customer_id: CustomerId, resources: ControlPlane, query: AskedUsage) -> Listing[UsageBucket]:
    """Sum up a customer's usage by day, kind and model, for invoices; the last seven days if no times are given."""
    return query.answer(resources, customer_id, default_width="1d")


@router.delete("/{customer_id}")
def delete(customer_id: CustomerId, resources: ControlPlane) -> CustomerDeleted:
    """Delete a customer and everything of it; the answer lists what was deleted."""
    return customer_deleted(customer_id, customers.delete(resources, customer_id))
