"""/v1/keys: a customer issues and revokes keys by itself, within what its own key may do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api.admission import CustomerRoute, needs
from api.authentication import Caller
from api.context import ControlPlane
from api.documentation import answers
from api.idempotency import OnceOnly
from api.logging import note_target
from api.pagination import DEFAULT_LIMIT, After, Limit, listing
from api.routes.keys import Status, unstored, without_secret
from api.schemas.base import Listing
from api.schemas.customers import IssuedKeyObject, IssueKey, KeyObject, issued_key_object, key_object
from models.services import keys
from models.services.keys import KeyLimits

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=CustomerRoute, responses=answers(401, 403, 404, 429))

KeyId = Annotated[str, Path(description="The key's id: `key_…`.")]


@router.post("", response_model=IssuedKeyObject, responses=answers(400, 409), dependencies=[needs("manage")])
def issue(
    request: Request, caller: Caller, resources: ControlPlane, once: OnceOnly, body: IssueKey | None = None
) -> Response:
    """Issue a key of your own, with no more scopes than this one, and for no longer. Its secret is shown once."""
    asked = body or IssueKey()
    within = KeyLimits(caller.scopes, caller.expires_at)

    def create() -> IssuedKeyObject:
        issued = keys.issue(
            resources,
            caller.customer_id,
            name=asked.name,
            scopes=asked.scopes,
            expires_at=asked.expires_at,
            within=within,
        )
        note_target(request, key_id=issued.key.id)
        return issued_key_object(issued.key, issued.secret)

    return unstored(once.answer(asked.model_dump(), create, redact=without_secret))


@router.get("", dependencies=[needs("manage")])
def list_all(
    caller: Caller,
    resources: ControlPlane,
    *,
    after: After = None,
    limit: Limit = DEFAULT_LIMIT,
    status: Status = None,
) -> Listing[KeyObject]:
    """List your keys, without their secrets."""
    page = keys.list_page(resources, caller.customer_id, after=after, limit=limit, status=status or ())
    return listing(page, key_object)


@router.delete("/{key_id}", dependencies=[needs("manage")])
def revoke(key_id: KeyId, caller: Caller, resources: ControlPlane) -> KeyObject:
    """Revoke a key of yours. It is dead everywhere within seconds, and stays in the list."""
    return key_object(keys.revoke(resources, caller.customer_id, key_id))
