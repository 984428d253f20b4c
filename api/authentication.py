"""The caller of a request: the operator, or a customer through one of its keys."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import structlog
from fastapi import Depends, Request
from pydantic import SecretStr

from api import context
from models.errors import Forbidden, Unauthenticated
from models.services.access.resolver import Principal

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Operator:
    """The holder of the operator's key."""


Audience = Literal["customer", "operator"]


class NoKey(Unauthenticated):
    """The request carries no key, or not as a bearer token."""

    message = (
        "You did not provide an API key. Send it in the header 'Authorization: Bearer gr-...' "
        "(the openai SDK: OpenAI(base_url=..., api_key=...))."
    )


class OperatorOnly(Forbidden):
    """A customer's key on a route of the operator's."""

    message = "This route is the operator's. A customer's key may not use it."


class CustomerOnly(Forbidden):
    """The operator's key on a route that needs a customer."""

    message = (
        "The operator's key speaks for no customer. Use a customer's key: "
        "POST /v1/customers creates a customer, POST /v1/customers/{{id}}/keys issues a key."
    )


async def admit(request: Request, audience: Audience) -> None:
    """Authenticate the caller, count the request against its limit, and check that the route is for it.

    Sets `request.state.caller`. Raises NoKey, an error of the key directory, RateLimited, OperatorOnly, CustomerOnly.
    """
    parts = context.of(request)
    secret = _bearer_token(request)
    caller: Principal | Operator
    if _is_operators(parts.settings.admin_key, secret):
        caller = Operator()
        structlog.contextvars.bind_contextvars(caller=OPERATOR)
        parts.limits.admit(request.scope, OPERATOR)
    else:
        caller = await parts.authenticate(secret)
        structlog.contextvars.bind_contextvars(customer_id=caller.customer_id, key_id=caller.key_id)
        parts.limits.admit(request.scope, caller.customer_id)
    if audience == "operator" and not isinstance(caller, Operator):
        raise OperatorOnly()
    if audience == "customer" and isinstance(caller, Operator):
        raise CustomerOnly()
    request.state.caller = caller


async def is_still_admitted(request: Request) -> bool:
    """Whether the key of a request is still valid, from the same cache: for answers that take long."""
    try:
        await context.of(request).authenticate(_bearer_token(request))
    except Unauthenticated:
        return False
    return True


def customer_of(request: Request) -> Principal:
    """Return the customer that `admit` has authenticated."""
    return cast("Principal", request.state.caller)


Caller = Annotated[Principal, Depends(customer_of)]


def _bearer_token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise NoKey()
    return token.strip()


def _is_operators(admin_key: SecretStr | None, secret: str) -> bool:
    if admin_key is None:
        return False
    return secrets.compare_digest(admin_key.get_secret_value().encode(), secret.encode())
