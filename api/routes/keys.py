"""/v1/customers/{customer_id}/keys: the operator issues, rotates and revokes customers' keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from api.admission import OperatorRoute
from api.context import ControlPlane
from api.documentation import answers
from api.idempotency import OnceOnly
from api.logging import note_target
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.schemas.base import Listing
from api.schemas.customers import IssuedKeyObject, IssueKey, KeyObject, RotateKey, issued_key_object, key_object
from models.records.keys import KeyStatus
from models.services import keys

router = APIRouter(
    prefix="/v1/customers/{customer_id}/keys",
    tags=["operator"],
    route_class=OperatorRoute,
    responses=answers(401, 403, 404),
)

CustomerId = Annotated[str, Path(description="The customer's id: `cus_…`.")]
Status = Annotated[list[KeyStatus] | None, Query(description="Only keys in this state; may be repeated for several.")]
KeyId = Annotated[str, Path(description="The key's id: `key_…`.")]


@router.post("", response_model=IssuedKeyObject, responses=answers(400, 409))
def issue(
    request: Request,
    customer_id: CustomerId,
    resources: ControlPlane,
    once: OnceOnly,
    body: IssueKey | None = None,
) -> Response:
    """Issue a key. Its secret is shown in this answer and never again."""
    asked = body or IssueKey()

    def create() -> IssuedKeyObject:
        issued = keys.issue(resources, customer_id, name=asked.name, scopes=asked.scopes, expires_at=asked.expires_at)
        note_target(request, key_id=issued.key.id)
        return issued_key_object(issued.key, issued.secret)

    return unstored(once.answer(asked.model_dump(), create, redact=without_secret))


@router.get("")
def list_all(
    customer_id: CustomerId,
    resources: ControlPlane,
    *,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    status: Status = None,
) -> Listing[KeyObject]:
    """List a customer's keys, without their secrets."""
    page = keys.list_page(resources, customer_id, after=after, limit=limit, status=status or ())
    return listing(page, key_object)


@router.post("/{key_id}/rotate", response_model=IssuedKeyObject, responses=answers(400, 409))
def rotate(
    request: Request,
    customer_id: CustomerId,
    key_id: KeyId,
    resources: ControlPlane,
    *,
    once: OnceOnly,
    body: RotateKey | None = None,
) -> Response:
    """Issue a key in the place of another one, which stays valid for `grace_seconds`.

    Both count until then, and one more than the quota of keys is allowed: `quota_exceeded` if there is one already.
    """
    asked = body or RotateKey()

    def create() -> IssuedKeyObject:
        issued = keys.rotate(resources, customer_id, key_id, grace_s=asked.grace_seconds)
        note_target(request, new_key_id=issued.key.id)
        return issued_key_object(issued.key, issued.secret)

    return unstored(once.answer(asked.model_dump(), create, redact=without_secret))


@router.delete("/{key_id}")
def revoke(customer_id: CustomerId, key_id: KeyId, resources: ControlPlane) -> KeyObject:
    """Revoke a key. It is dead everywhere within seconds, and stays in the list."""
    return key_object(keys.revoke(resources, customer_id, key_id))


def without_secret(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with a key in the form in which it may be kept."""
    # Only hashes of secrets are kept, in the table of replayed answers too.
    return {**answer, "key": None}


def unstored(answer: Response) -> Response:
    """Keep an answer with a key out of every cache on its way."""
    answer.headers["cache-control"] = "no-store"
    return answer
